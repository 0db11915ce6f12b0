// The links that wait for a person, by user: what to send, and what the person has to do.

import { at, copyable, fillRows, link, make, moment, plural, sentence } from './base.js';
import { openDetail } from './detail.js';
import { badge } from './links.js';
import { paged } from './paging.js';
import { showView } from './views.js';

const rows = new Map();
const list = paged('waiting', () => ({ waiting: 'true' }), show);
export const refreshWaiting = () => list.load();

function show({ links }) {
  // In the order of users, so that those of one come together.
  const users = new Map();
  for (const one of links) users.set(one.user, [...users.get(one.user) ?? [], one]);
  fillRows(at('waiting-rows'), rows, [...users], ([user]) => user, group);
  at('waiting-none').hidden = links.length > 0;
  at('waiting-none').textContent = 'No link waits for a person.';
}

function group([user, links]) {
  const facebook = links.find(one => one.source === 'facebook');
  const send = [facebook && make('p', {}, 'Send this login address: ', copyable(facebook.login_url, `the login address for user ${user}`)),
    facebook && make('p', {}, 'Or a one-time login link: ', copyable(`pagesyncd session --user ${user}`, `the command for user ${user}`))];
  return make('article', { className: 'person', data: { user } },
    make('h2', {}, 'User ', make('code', { textContent: user }), make('span', { className: 'dim', textContent: ` ${plural(links.length, 'link')}` })),
    ...send,
    make('ul', {}, ...links.map(waits)));
}

function waits(one) {
  const name = link(one.name ?? one.id, `waiting-${one.source}/${one.id}/${one.user}`, () => { showView('links'); openDetail(one.source, one.id); });
  return make('li', { data: { source: one.source, id: one.id, health: one.health } },
    make('div', { className: 'head' }, name, badge(one), make('span', { className: 'dim' }, moment(one.since))),
    make('p', {}, `${sentence(one.reason)} `, make('b', { textContent: `What to do: ${one.remedy}.` })),
    one.source === 'shopify' && make('p', {}, 'Install address: ', copyable(one.login_url, `the install address of ${one.id}`)));
}
