/**
 * Makes an element. Text is always set as text, never as HTML: names come from cars.
 * @param {string} tag
 * @param {Record<string, unknown>} [props] properties; `class`, `data-*`, `aria-*` and `role` are attributes
 * @param {...(Node | string | null)} children
 * @returns {any}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (/^(class|role|for|colspan|(data|aria)-)/.test(name)) element.setAttribute(name, String(value));
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * Makes an SVG element.
 * @param {string} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {...Node} children
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * @param {string} id
 * @returns {any} the element, which is part of the page
 */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * Sets text only where it differs, so that selections and screen readers are left alone.
 * @param {any} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * What stands where there is nothing to show yet.
 * @param {string} title
 * @param {string} text
 */
export function emptyState(title, text) {
  return h('div', { class: 'empty' }, h('strong', {}, title), h('p', {}, text));
}
