// Runs in the page under test. Gives the number of visible texts, and those whose contrast with the background is
// below 4.5 as WCAG 2 counts it. Gradients and pictures are not looked at.
const canvas = document.createElement('canvas'); canvas.width = canvas.height = 1;
const ink = canvas.getContext('2d', { willReadFrequently: true });
const rgba = colour => { ink.clearRect(0, 0, 1, 1); ink.fillStyle = '#000'; ink.fillStyle = colour; ink.fillRect(0, 0, 1, 1); const [r, g, b, a] = ink.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4); return .2126 * x + .7152 * y + .0722 * z; };
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((m, n) => n - m); return (x + .05) / (y + .05); };
const chain = element => { const all = []; for (let e = element; e; e = e.parentElement) all.push(e); return all; };
const behind = element => chain(element).reverse().reduce((under, e) => over(rgba(getComputedStyle(e).backgroundColor), under), [255, 255, 255, 1]);
const seen = element => element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && element.getClientRects().length > 0;
const found = [];
const judge = (element, colour, what) => {
  const back = behind(element), opacity = chain(element).reduce((all, e) => all * getComputedStyle(e).opacity, 1);
  const [r, g, b, a] = rgba(colour), shown = over([r, g, b, a * opacity], back), value = ratio(shown, back);
  if (value < 4.5) found.push(`${value.toFixed(2)} ${element.tagName.toLowerCase()}${element.id ? '#' + element.id : '.' + element.className}: ${what.trim().slice(0, 40)}`);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let count = 0;
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.data.trim() || ['SCRIPT', 'STYLE', 'OPTION'].includes(element.tagName) || !seen(element)) continue;
  judge(element, getComputedStyle(element).color, node.data); count += 1;
}
for (const field of document.querySelectorAll('input,textarea,select')) if (seen(field)) {
  judge(field, getComputedStyle(field).color, field.value); count += 1;
  if (field.placeholder) judge(field, getComputedStyle(field, '::placeholder').color, field.placeholder);
}
for (const element of document.querySelectorAll('body *')) for (const part of ['::before', '::after']) {
  const style = getComputedStyle(element, part), text = style.content;
  if (seen(element) && /^"[^"]*[A-Za-z]/.test(text)) judge(element, style.color, text);
}
return { count, found };
