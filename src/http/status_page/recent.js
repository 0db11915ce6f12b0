// The latest events.

import { at, clock, fill, link, make } from './base.js';
import { openDetail } from './detail.js';
import { showView } from './views.js';

const MOST = 200;
let events = new Map(), timer = null;

// A count that grows is one line: each event names the first one of it.
const keyOf = event => event.replaces ?? event.id;
const numberOf = event => Number(event.id.split('-')[1]);

export function happened(event) {
  const before = events.get(keyOf(event));
  if (before && numberOf(before) >= numberOf(event)) return;
  events.set(keyOf(event), event);
  // Many come at once after a connection.
  timer ??= setTimeout(draw, 30);
}

const lines = new Map();
function draw() {
  timer = null;
  const latest = [...events.values()].sort((a, b) => a.at < b.at ? 1 : a.at > b.at ? -1 : numberOf(b) - numberOf(a)).slice(0, MOST);
  events = new Map(latest.map(event => [keyOf(event), event]));
  const shown = new Set(latest.map(event => event.id));
  for (const id of lines.keys()) if (!shown.has(id)) lines.delete(id);
  fill(at('recent'), latest.map(event => { if (!lines.has(event.id)) lines.set(event.id, line(event)); return lines.get(event.id); }));
}

function line(event) {
  const { link: of } = event;
  const name = of && link(of.name ?? of.id, `recent-${event.id}`, () => { showView('links'); openDetail(of.source, of.id); });
  return make('li', { className: event.ok ? '' : 'failed', data: { kind: event.kind, id: event.id } },
    make('span', { className: 'dim at', textContent: clock.format(new Date(event.at)), title: event.at }), make('i'),
    make('span', {}, name, name && ' ', event.text));
}
