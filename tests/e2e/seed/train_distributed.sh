#!/bin/bash
set -e

# Configuration
CLUSTER_NAME="sentiment-analyzer-cluster"
WORKERS=4
EPOCHS=50
BATCH_SIZE=32
LEARNING_RATE=0.001

echo "ğŸš€ Initializing distributed neural cluster..."

# Step 1: Create cluster
CLUSTER_ID=$(flow-nexus neural cluster init \
  --name "$CLUSTER_NAME" \
  --topology mesh \
  --architecture transformer \
  --daa-enabled true \
  --consensus proof-of-learning \
  --wasm-optimization true \
  --format json | jq -r '.cluster_id')

echo "âœ… Cluster created: $CLUSTER_ID"

# Step 2: Deploy workers
echo "ğŸ”§ Deploying $WORKERS worker nodes..."
WORKER_IDS=()
for i in $(seq 1 $WORKERS); do
  WORKER_ID=$(flow-nexus neural node deploy \
    --cluster-id "$CLUSTER_ID" \
    --node-type worker \
    --role worker \
    --model base \
    --template nodejs \
    --autonomy 0.8 \
    --capabilities training,inference \
    --format json | jq -r '.node_id')
  WORKER_IDS+=("$WORKER_ID")
  echo "  Worker $i deployed: $WORKER_ID"
done

# Step 3: Deploy parameter server
echo "ğŸ”§ Deploying parameter server..."
PS_ID=$(flow-nexus neural node deploy \
  --cluster-id "$CLUSTER_ID" \
  --node-type parameter_server \
  --role aggregator \
  --model large \
  --template nodejs \
  --autonomy 0.9 \
  --capabilities aggregation,synchronization \
  --format json | jq -r '.node_id')

echo "âœ… Parameter server deployed: $PS_ID"

# Step 4: Connect nodes
echo "ğŸŒ Connecting nodes in mesh topology..."
flow-nexus neural cluster connect \
  --cluster-id "$CLUSTER_ID" \
  --topology mesh

# Step 5: Upload data shards
echo "ğŸ“¤ Uploading training data shards..."
for i in $(seq 1 $WORKERS); do
  flow-nexus sandbox upload \
    --sandbox-id "${WORKER_IDS[$i-1]}" \
    --file-path "/data/train_shard_${i}.json" \
    --content "$(cat data/customer_feedback_shard_${i}.json)" &
done
wait

# Step 6: Start distributed training
echo "ğŸ“ Starting federated training..."
TRAINING_ID=$(flow-nexus neural train distributed \
  --cluster-id "$CLUSTER_ID" \
  --dataset /data/train_*.json \
  --epochs $EPOCHS \
  --batch-size $BATCH_SIZE \
  --learning-rate $LEARNING_RATE \
  --optimizer adam \
  --federated true \
  --format json | jq -r '.training_id')

echo "âœ… Training started: $TRAINING_ID"

# Step 7: Monitor training
echo "ğŸ“Š Monitoring training progress..."
while true; do
  STATUS=$(flow-nexus neural cluster status \
    --cluster-id "$CLUSTER_ID" \
    --format json)

  EPOCH=$(echo "$STATUS" | jq -r '.training_sessions[0].epoch')
  ACCURACY=$(echo "$STATUS" | jq -r '.training_sessions[0].metrics.validation_accuracy')

  echo "  Epoch $EPOCH/$EPOCHS | Validation Accuracy: $ACCURACY"

  if [ "$EPOCH" -eq "$EPOCHS" ]; then
    echo "âœ… Training complete!"
    break
  fi

  sleep 30
done

# Step 8: Run validation
echo "ğŸ§ª Running distributed inference on test set..."
flow-nexus neural predict distributed \
  --cluster-id "$CLUSTER_ID" \
  --input-data /data/test.json \
  --aggregation ensemble

echo "ğŸ‰ Distributed training workflow complete!"
echo "Cluster ID: $CLUSTER_ID"
echo "Training ID: $TRAINING_ID"
