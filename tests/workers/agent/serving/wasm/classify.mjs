// Labels of texts by ONNX Runtime's WebAssembly build: node classify.mjs MODEL BATCHES, both files; prints one JSON object.
// BATCHES is [{texts, tokens, ids: […], mask: […]}, …], rows flat; the answer has the class of each text, in that order.
import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-web/wasm";

const [model, batches] = process.argv.slice(2);
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(await readFile(model), { executionProviders: ["wasm"] });
const classes = [];
for (const { texts, tokens, ids, mask } of JSON.parse(await readFile(batches, "utf8"))) {
  const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [texts, tokens]);
  const { logits } = await session.run({ input_ids: tensor(ids), attention_mask: tensor(mask) });
  const width = logits.dims[1];
  for (let row = 0; row < texts; row += 1) {
    const scores = logits.data.slice(row * width, (row + 1) * width);
    classes.push(scores.indexOf(Math.max(...scores)));
  }
}
console.log(JSON.stringify({ version: ort.env.versions.web, classes }));
