// Types of the API's answers, for the check of types. `make check-js` writes them from openapi.json.

/** @typedef {import("../../../build/js/openapi").paths} Paths */
/**
 * The JSON of a GET.
 * @template {keyof Paths} P
 * @typedef {Paths[P] extends {get: {responses: {200: {content: {"application/json": infer T}}}}} ? T : never} Answer
 */
/** @typedef {Answer<"/v1/project">} Project */
/** @typedef {Answer<"/readyz">} Readiness */
/** @typedef {Answer<"/v1/clusters/{cluster_id}">} Cluster */
/** @typedef {Answer<"/v1/clusters/{cluster_id}/status">} ClusterStatus */
/** @typedef {Answer<"/v1/clusters/{cluster_id}/connections">["connections"]} Connections */
/** @typedef {Answer<"/v1/clusters/{cluster_id}/nodes">["items"][number]} ClusterNode */
/** @typedef {Answer<"/v1/trainings/{training_id}">} Training */
/** @typedef {Answer<"/v1/trainings/{training_id}/curves">} Curves */
/** @typedef {Answer<"/v1/trainings/{training_id}/rounds">["items"][number]} Round */
/** @typedef {Answer<"/v1/searches/{search_id}">} Search */
/** @typedef {Answer<"/v1/models/{model_id}">} Model */
/** @typedef {Answer<"/v1/sandboxes/{sandbox_id}">} Sandbox */
/** @typedef {Answer<"/v1/sandboxes/{sandbox_id}/logs">["lines"]} LogLines */
/** @typedef {Answer<"/v1/sandboxes/{sandbox_id}/files/list">} FileList */
/** @typedef {Answer<"/v1/keys">["items"][number]} Key */
/** @typedef {Answer<"/v1/predictions/{prediction_id}">} Prediction */

export {};
