// Draw elements from descriptions, and change only what differs from the last drawing.
// So the focus, the selection and the scroll position stay when new figures arrive.

const SVG = "http://www.w3.org/2000/svg";
/** Attributes that only the property changes once the user has touched the element. */
const PROPERTIES = new Set(["value", "checked", "selected", "open", "indeterminate", "data", "srcObject"]);

/**
 * @typedef {object} VNode
 * @property {string} tag
 * @property {Record<string, any>} props
 * @property {Child[]} children
 */
/** @typedef {VNode | string} Child */
/** What a description may hold besides: nothing, a number, or a list of such things. @typedef {Child | number | null | undefined | false | any[]} Loose */

/** @type {WeakMap<Node, VNode>} */
const drawn = new WeakMap();
/** @type {WeakMap<Node, Map<string, Function>>} */
const listeners = new WeakMap();

/**
 * Describe an element. `on…` props are listeners. `ref` is called once with the new element.
 * `key` says that an element stands for another thing, and must be made anew.
 * @param {string} tag
 * @param {Record<string, any> | null} [props]
 * @param {...Loose} children
 * @returns {VNode}
 */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: flat(children) };
}

/** @param {Loose[]} children @returns {Child[]} */
function flat(children) {
  /** @type {Child[]} */
  const found = [];
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) found.push(...flat(child));
    else found.push(typeof child === "number" ? String(child) : child);
  }
  return found;
}

/**
 * Make the children of `parent` those that are described.
 * @param {Element} parent
 * @param {...Loose} children
 */
export function draw(parent, ...children) {
  const wanted = flat(children);
  wanted.forEach((child, index) => {
    const node = parent.childNodes[index];
    if (node && same(node, child)) update(node, child);
    else if (node) parent.replaceChild(create(child, parent), node);
    else parent.append(create(child, parent));
  });
  while (parent.childNodes.length > wanted.length) parent.lastChild?.remove();
}

/** @param {Node} node @param {Child} child */
function same(node, child) {
  if (typeof child === "string") return node.nodeType === Node.TEXT_NODE;
  const before = drawn.get(node);
  return before !== undefined && before.tag === child.tag && before.props.key === child.props.key;
}

/** @param {Child} child @param {Element} parent @returns {Node} */
function create(child, parent) {
  if (typeof child === "string") return document.createTextNode(child);
  const isSvg = child.tag === "svg" || (parent.namespaceURI === SVG && parent.tagName !== "foreignObject");
  const element = isSvg ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
  listeners.set(element, new Map());
  drawn.set(element, child);
  // Options must exist before a select can take its value.
  draw(element, ...child.children);
  for (const [name, value] of Object.entries(child.props)) set(element, name, value);
  child.props.ref?.(element);
  return element;
}

/** @param {Node} node @param {Child} child */
function update(node, child) {
  if (typeof child === "string") {
    if (node.nodeValue !== child) node.nodeValue = child;
    return;
  }
  const element = /** @type {Element} */ (node);
  const before = /** @type {VNode} */ (drawn.get(node));
  drawn.set(element, child);
  // An element of our own draws its content by itself.
  if (!child.tag.includes("-")) draw(element, ...child.children);
  for (const name of Object.keys(before.props)) if (!(name in child.props)) set(element, name, null);
  for (const [name, value] of Object.entries(child.props)) if (before.props[name] !== value) set(element, name, value);
}

/** @param {Element} element @param {string} name @param {any} value */
function set(element, name, value) {
  if (name === "key" || name === "ref") return;
  if (name.startsWith("on")) listen(element, name.slice(2), value);
  else if (name === "vars") {
    for (const [key, text] of Object.entries(value ?? {})) /** @type {HTMLElement} */ (element).style.setProperty(key, text);
  } else if (PROPERTIES.has(name)) /** @type {any} */ (element)[name] = value ?? "";
  else if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : String(value));
}

/** @param {Element} element @param {string} type @param {Function | null} handler */
function listen(element, type, handler) {
  const own = /** @type {Map<string, Function>} */ (listeners.get(element));
  if (!own.has(type)) element.addEventListener(type, (event) => own.get(type)?.(event));
  if (handler) own.set(type, handler);
  else own.set(type, () => {});
}
