// The feed, the pulses along the wires, and the latency of the latest edit.

import { ask, at, clock, fill, lasted, link, make } from './base.js';

const MOST = 300;
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
let last = 0;
let choose = () => {};

export function onChoose(work) { choose = work; }

function line(event) {
  const words = make('span', {});
  if (event.page) words.append(link(event.name ?? event.page, `event-${event.seq}`, () => choose(event.page)), ' ');
  words.append(event.text);
  return make('li', { className: event.ok ? '' : 'failed', data: { kind: event.kind, page: event.page ?? '' } },
    make('time', { textContent: clock.format(event.at) }), make('i'), words);
}

// Events from before this page was opened, or while it was away.
export async function catchUp() {
  const events = await ask('feed');
  if (events.length) last = events.at(-1).seq;
  fill(at('feed'), events.slice(-MOST).reverse().map(line));
}

export function happened(events) {
  const fresh = events.filter(event => event.seq > last);
  if (!fresh.length) return fresh;
  last = fresh.at(-1).seq;
  const list = at('feed'), panel = at('panels');
  const held = panel.scrollTop > 30 && !list.closest('[hidden]') ? panel.scrollHeight - panel.scrollTop : 0;
  list.prepend(...[...fresh].reverse().map(line));
  while (list.children.length > MOST) list.lastElementChild.remove();
  if (held) panel.scrollTop = panel.scrollHeight - held;
  for (const event of fresh) { const wire = wireOf(event); if (wire) pulse(wire, event.ok); }
  return fresh;
}

function wireOf(event) {
  if (event.kind === 'webhook' && /^webhook /.test(event.text)) return 'webhook';
  if (event.kind === 'spaces') return 'write';
  // What shops are asked has no wire here.
  return event.kind === 'graph' && event.call ? 'read' : null;
}

let flying = 0;
function pulse(wire, ok) {
  if (calm || flying > 24 || document.hidden) return;
  const dot = make('i', { className: 'pulse' + (ok ? '' : ' failed') });
  at('wire-' + wire).append(dot);
  flying += 1;
  const [from, to] = wire === 'read' ? ['100%', ok ? '0%' : '45%'] : ['0%', ok ? '100%' : '55%'];
  const flight = dot.animate([{ left: from }, { left: to, offset: .85 }, { left: to, opacity: 0 }], { duration: 700, easing: 'linear' });
  flight.onfinish = flight.oncancel = () => { dot.remove(); flying -= 1; };
}

// From the latest edit to the object, as the server saw both.
export function showLatency(edit) {
  const text = at('latency');
  const show = (words, waiting) => { text.textContent = words; text.classList.toggle('waiting', waiting); };
  at('step-edit').classList.toggle('done', edit !== null);
  at('step-watch').classList.toggle('done', Boolean(edit?.stored_at));
  at('watch-text').textContent = edit ? `The latest edit was of ${edit.name}.` : 'The webhook, the read and the write show above as they happen.';
  if (!edit) show('', false);
  else if (edit.stored_at) show(`in Spaces after ${lasted(edit.stored_at - edit.at)}`, false);
  else if (edit.standing === 'behind' || edit.standing === 'damaged') show('on its way…', true);
  else if (edit.standing === 'equal') show('Spaces has it', false);
  else show(edit.standing === 'none' ? 'the page has no object: link it first' : 'the page is not linked any more', true);
}
