// The contrast of each text of each SVG that is to be seen, after WCAG 2.2, success criterion 1.4.3: a list of
// [text, ratio]. Its ground is what is filled under its middle, in the SVG and behind it, clear colours laid over another.
const rgba = (c) => { const [r, g, b, a = 1] = c.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
const over = (top, below) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * below[i]);
const channel = (v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const paint = (e) => {
  const style = getComputedStyle(e), [r, g, b, a] = rgba(style.fill);
  let clear = a * style.fillOpacity;
  for (let up = e; up; up = up.parentElement) clear *= getComputedStyle(up).opacity;
  return [r, g, b, clear];
};
const behind = (e) => {
  const layers = [];
  for (let up = e; up; up = up.parentElement) layers.push(rgba(getComputedStyle(up).backgroundColor));
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
  return layers.reduceRight((below, top) => over(top, below), canvas);
};
const under = (text, svg) => {
  const box = text.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
  let ground = behind(svg);
  for (const shape of svg.querySelectorAll("rect, circle, ellipse, polygon, path")) {
    if (!(shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) break;
    if (shape.closest("defs, clipPath, mask, symbol") || !shape.checkVisibility()) continue;
    if (getComputedStyle(shape).fill === "none") continue;
    const at = new DOMPoint(x, y).matrixTransform(shape.getScreenCTM().inverse());
    if (shape.isPointInFill(at)) ground = over(paint(shape), ground);
  }
  return ground;
};
const found = [];
for (const svg of document.querySelectorAll("svg"))
  for (const text of svg.querySelectorAll("text")) {
    if (!text.checkVisibility() || !text.textContent.trim() || getComputedStyle(text).visibility !== "visible") continue;
    const ground = under(text, svg), [a, b] = [luminance(over(paint(text), ground)), luminance(ground)].sort((p, q) => q - p);
    found.push([text.textContent.trim().slice(0, 40), (a + .05) / (b + .05)]);
  }
return found;
