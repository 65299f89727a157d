// What is wrong with the page that is open: a list of lines.
const found = [], seen = new Set();
if (document.documentElement.scrollWidth > innerWidth) found.push("wider than the window");
if (!document.documentElement.lang) found.push("no language");
if (!document.title) found.push("no title");
const named = (e) => e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && e.labels.length)
  || e.getAttribute("aria-labelledby");
for (const e of document.querySelectorAll("button, select, input, a, summary, [role=img]"))
  if (e.checkVisibility() && !named(e)) found.push("no name: " + e.outerHTML.slice(0, 80));
for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) found.push("no alt: " + e.id);
for (const e of document.querySelectorAll("[id]")) { if (seen.has(e.id)) found.push("twice: " + e.id); seen.add(e.id); }
let level = 0;
for (const e of document.querySelectorAll("h1,h2,h3,h4")) if (e.checkVisibility()) {
  const own = Number(e.tagName[1]); if (own > level + 1) found.push("skips a level: " + e.textContent); level = own; }
for (const e of document.querySelectorAll("p,h1,h2,h3,label,button,figcaption,dt,dd,legend,summary"))
  if (e.checkVisibility() && !e.closest(".unseen") && getComputedStyle(e).display !== "inline" && e.scrollWidth > e.clientWidth + 1)
    found.push("sticks out: " + e.textContent.trim().slice(0, 40));
const channel = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const light = (c) => { const [r, g, b] = c.match(/[\d.]+/g).map(Number); return .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b); };
const solid = (c) => !/, 0\)$/.test(c);
for (const e of document.querySelectorAll("p,h1,h2,h3,button,label,td,th,li,summary,a,figcaption,legend,code")) {
  if (!e.checkVisibility() || !e.textContent.trim() || e.disabled) continue;
  let ground = e; while (ground && !solid(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
  const [a, b] = [light(getComputedStyle(e).color), light(getComputedStyle(ground || document.body).backgroundColor)].sort((x, y) => y - x);
  if ((a + .05) / (b + .05) < 4.5) found.push("too faint: " + e.textContent.trim().slice(0, 40));
}
return found;
