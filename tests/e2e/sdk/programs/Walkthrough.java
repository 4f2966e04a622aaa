// The walkthrough, with the client that OpenAPI Generator makes for Java (library native).
// It needs FLOW_NEXUS_URL and FLOW_NEXUS_API_KEY, and prints what it got as one line of JSON.

import flownexus.ApiClient;
import flownexus.api.ClustersApi;
import flownexus.api.EventsApi;
import flownexus.api.ModelsApi;
import flownexus.api.NodesApi;
import flownexus.api.PredictionsApi;
import flownexus.api.TrainingsApi;
import flownexus.model.Architecture;
import flownexus.model.ClusterConnect;
import flownexus.model.ClusterCreate;
import flownexus.model.ClusterEvent;
import flownexus.model.Consensus;
import flownexus.model.ExportCreate;
import flownexus.model.NodeDeploy;
import flownexus.model.NodeType;
import flownexus.model.PredictedText;
import flownexus.model.PredictionCreate;
import flownexus.model.RoundCompletedEvent;
import flownexus.model.TrainingCreate;
import flownexus.model.TrainingState;
import java.io.File;
import java.net.URI;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

public class Walkthrough {
    private static final String WAIT = "wait=120";

    private static byte[] shard(int number) throws Exception {
        List<Map<String, String>> rows = new ArrayList<>();
        for (int row = 0; row < 30; row++) {
            rows.add(Map.of("text", "item " + number + " " + row + " is great and sturdy", "sentiment", "positive"));
            rows.add(Map.of("text", "item " + number + " " + row + " is broken and noisy", "sentiment", "negative"));
        }
        return ApiClient.createDefaultObjectMapper().writeValueAsBytes(rows);
    }

    public static void main(String[] arguments) throws Exception {
        ApiClient client = new ApiClient();
        client.updateBaseUri(System.getenv("FLOW_NEXUS_URL"));
        String key = "Bearer " + System.getenv("FLOW_NEXUS_API_KEY");
        client.setRequestInterceptor(request -> request.header("Authorization", key));
        ClustersApi clusters = new ClustersApi(client);
        NodesApi deployments = new NodesApi(client);
        TrainingsApi trainings = new TrainingsApi(client);
        ModelsApi models = new ModelsApi(client);

        var wanted = new ClusterCreate().name("java").architecture(Architecture.CNN).consensus(Consensus.NONE);
        String cluster = clusters.createCluster(wanted, null).getClusterId();
        List<String> nodes = new ArrayList<>();
        for (NodeType kind : List.of(NodeType.WORKER, NodeType.WORKER, NodeType.PARAMETER_SERVER)) {
            nodes.add(deployments.deployNode(cluster, new NodeDeploy().nodeType(kind), null, WAIT).getNodeId());
        }
        var connection = clusters.connectCluster(cluster, new ClusterConnect());
        for (int number = 0; number < 2; number++) {
            // The generated `uploadFile` sends the name of the file instead of its bytes.
            String place = "/v1/sandboxes/" + nodes.get(number) + "/files?path=/data/train_" + number + ".json";
            var upload = HttpRequest.newBuilder(URI.create(client.getBaseUri() + place)).header("Authorization", key);
            var request = upload.PUT(HttpRequest.BodyPublishers.ofByteArray(shard(number))).build();
            client.getHttpClient().send(request, HttpResponse.BodyHandlers.discarding());
        }
        var asked = new TrainingCreate().dataset("/data/train_*.json").epochs(2).batchSize(8);
        var training = trainings.startTraining(cluster, asked, null, null);
        while (training.getStatus() == TrainingState.PENDING || training.getStatus() == TrainingState.TRAINING) {
            Thread.sleep(500);
            training = trainings.getTraining(training.getTrainingId(), null);
        }
        var status = clusters.getClusterStatus(cluster, null);
        var events = new EventsApi(client).listTrainingEvents(training.getTrainingId(), null, null, "round.*", null);
        List<Integer> rounds = new ArrayList<>();
        for (ClusterEvent event : events.getItems()) {
            if (event.getActualInstance() instanceof RoundCompletedEvent) {
                rounds.add(event.getRoundCompletedEvent().getRound());
            }
        }
        var texts = new PredictionCreate().inputs(List.of("the lamp is great and sturdy"));
        var prediction = new PredictionsApi(client).predict(cluster, texts, null, WAIT);
        List<String> sentiments = new ArrayList<>();
        for (PredictedText text : prediction.getResults().getPredictions()) {
            sentiments.add(text.getSentiment());
        }
        var model = models.exportModel(training.getTrainingId(), new ExportCreate().name("model"), null, WAIT);
        File archive = models.downloadModel(model.getModelId(), null);
        var ended = clusters.terminateCluster(cluster, WAIT);
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("edges", connection.getConnections().size());
        found.put("training", training.getStatus());
        found.put("epoch", training.getEpoch());
        found.put("rounds", rounds);
        found.put("sessions", status.getTrainingSessions().size());
        found.put("sentiments", sentiments);
        found.put("bytes", archive.length() == model.getSize());
        found.put("cluster", ended.getStatus());
        System.out.println(ApiClient.createDefaultObjectMapper().writeValueAsString(found));
        archive.delete();
    }
}
