// The walkthrough, with the client that OpenAPI Generator makes for Go.
// It needs FLOW_NEXUS_URL and FLOW_NEXUS_API_KEY, and prints what it got as one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	nexus "flownexus"
)

const wait = "wait=120"

// must returns the answer, or ends the program with what the service says.
func must[T any](answer *T, _ *http.Response, err error) *T {
	if refused, ok := err.(*nexus.GenericOpenAPIError); ok {
		log.Fatalf("%s: %s", err, refused.Body())
	}
	if err != nil {
		log.Fatal(err)
	}
	return answer
}

// shard writes a file with labelled texts.
func shard(number int) *os.File {
	rows := []map[string]string{}
	for row := 0; row < 30; row++ {
		rows = append(rows, map[string]string{"text": fmt.Sprintf("item %d %d is great and sturdy", number, row), "sentiment": "positive"})
		rows = append(rows, map[string]string{"text": fmt.Sprintf("item %d %d is broken and noisy", number, row), "sentiment": "negative"})
	}
	file, err := os.CreateTemp("", "shard-*.json")
	if err == nil {
		err = json.NewEncoder(file).Encode(rows)
	}
	if err == nil {
		_, err = file.Seek(0, 0)
	}
	if err != nil {
		log.Fatal(err)
	}
	return file
}

func main() {
	settings := nexus.NewConfiguration()
	settings.Servers = nexus.ServerConfigurations{{URL: os.Getenv("FLOW_NEXUS_URL")}}
	client := nexus.NewAPIClient(settings)
	ctx := context.WithValue(context.Background(), nexus.ContextAccessToken, os.Getenv("FLOW_NEXUS_API_KEY"))

	wanted := nexus.NewClusterCreate("go")
	wanted.SetArchitecture(nexus.ARCHITECTURE_CNN)
	wanted.SetConsensus(nexus.CONSENSUS_NONE)
	cluster := must(client.ClustersAPI.CreateCluster(ctx).ClusterCreate(*wanted).Execute()).ClusterId
	nodes := []string{}
	for _, kind := range []nexus.NodeType{nexus.NODETYPE_WORKER, nexus.NODETYPE_WORKER, nexus.NODETYPE_PARAMETER_SERVER} {
		node := nexus.NewNodeDeploy()
		node.SetNodeType(kind)
		nodes = append(nodes, must(client.NodesAPI.DeployNode(ctx, cluster).NodeDeploy(*node).Prefer(wait).Execute()).NodeId)
	}
	connection := must(client.ClustersAPI.ConnectCluster(ctx, cluster).ClusterConnect(*nexus.NewClusterConnect()).Execute())
	for number, node := range nodes[:2] {
		file := shard(number)
		must(client.SandboxesAPI.UploadFile(ctx, node).Path(fmt.Sprintf("/data/train_%d.json", number)).Body(file).Execute())
		os.Remove(file.Name())
	}
	asked := nexus.NewTrainingCreate("/data/train_*.json", 2)
	asked.SetBatchSize(8)
	training := must(client.TrainingsAPI.StartTraining(ctx, cluster).TrainingCreate(*asked).Execute())
	for training.Status == nexus.TRAININGSTATE_PENDING || training.Status == nexus.TRAININGSTATE_TRAINING {
		time.Sleep(500 * time.Millisecond)
		training = must(client.TrainingsAPI.GetTraining(ctx, training.TrainingId).Execute())
	}
	status := must(client.ClustersAPI.GetClusterStatus(ctx, cluster).Execute())
	events := must(client.EventsAPI.ListTrainingEvents(ctx, training.TrainingId).Types("round.*").Execute())
	rounds := []int32{}
	for _, event := range events.Items {
		if event.RoundCompletedEvent != nil {
			rounds = append(rounds, event.RoundCompletedEvent.Round)
		}
	}
	texts := nexus.NewPredictionCreate()
	texts.SetInputs([]string{"the lamp is great and sturdy"})
	prediction := must(client.PredictionsAPI.Predict(ctx, cluster).PredictionCreate(*texts).Prefer(wait).Execute())
	sentiments := []string{}
	for _, row := range prediction.Results.Get().Predictions {
		sentiments = append(sentiments, row.Sentiment)
	}
	exported := *nexus.NewExportCreate("model")
	model := must(client.ModelsAPI.ExportModel(ctx, training.TrainingId).ExportCreate(exported).Prefer(wait).Execute())
	file, response, err := client.ModelsAPI.DownloadModel(ctx, model.ModelId).Execute()
	archive, err := (*must(&file, response, err)).Stat()
	if err != nil {
		log.Fatal(err)
	}
	os.Remove(file.Name())
	ended := must(client.ClustersAPI.TerminateCluster(ctx, cluster).Prefer(wait).Execute())
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"edges":      len(connection.Connections),
		"training":   training.Status,
		"epoch":      training.Epoch,
		"rounds":     rounds,
		"sessions":   len(status.TrainingSessions),
		"sentiments": sentiments,
		"bytes":      archive.Size() == *model.Size.Get(),
		"cluster":    ended.Status,
	})
}
