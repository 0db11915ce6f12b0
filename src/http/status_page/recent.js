// The latest events.

import { at, clock, fill, link, make } from './base.js';
import { openDetail } from './detail.js';
import { showView } from './views.js';

const MOST = 200;
let events = new Map(), timer = null;

export function happened(event) {
  if (event.replaces) events.delete(event.replaces);
  if (events.has(event.id)) return;
  events.set(event.id, event);
  // Many come at once after a connection.
  timer ??= setTimeout(draw, 30);
}

const lines = new Map();
function draw() {
  timer = null;
  const latest = [...events.values()].sort((a, b) => a.at < b.at ? 1 : a.at > b.at ? -1 : 0).slice(0, MOST);
  events = new Map(latest.map(event => [event.id, event]));
  for (const id of lines.keys()) if (!events.has(id)) lines.delete(id);
  fill(at('recent'), latest.map(event => { if (!lines.has(event.id)) lines.set(event.id, line(event)); return lines.get(event.id); }));
}

function line(event) {
  const { link: of } = event;
  const name = of && link(of.name ?? of.id, `recent-${event.id}`, () => { showView('links'); openDetail(of.source, of.id); });
  return make('li', { className: event.ok ? '' : 'failed', data: { kind: event.kind, id: event.id } },
    make('span', { className: 'dim at', textContent: clock.format(new Date(event.at)), title: event.at }), make('i'),
    make('span', {}, name, name && ' ', event.text));
}
