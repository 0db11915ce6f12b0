// One Page or shop: everything that the daemon says of its links, and the commands that an operator may want.

import { address, at, copyable, fill, make, moment, read, sentence, stale, toast, words } from './base.js';
import { reasons } from './why.js';

let open = address.get('link');
export const isOpen = () => open;

export function openDetail(source, id) {
  open = `${source}/${id}`;
  address.set('link', open);
  document.dispatchEvent(new Event('detail'));
  return showDetail().then(() => at('link-close').focus({ preventScroll: true }));
}

export function close() {
  const row = [...at('link-rows').children].find(line => `${line.dataset.source}/${line.dataset.id}` === open);
  open = '';
  address.set('link', '');
  at('link-detail').hidden = true;
  document.dispatchEvent(new Event('detail'));
  (row?.querySelector('button') ?? at('link-search')).focus();
}
at('link-close').onclick = close;

export async function showDetail() {
  if (!open) return;
  const asked = open, [source, id] = [open.slice(0, open.indexOf('/')), open.slice(open.indexOf('/') + 1)];
  let links = [];
  try { ({ links } = await read(`/v1/links/${source}/${encodeURIComponent(id)}`)); } catch (error) {
    // Not linked any more. Any other trouble passes, and what is shown stays.
    if (error.status !== 404) { if (asked === open) toast(`The link cannot be read now: ${error.message}`); return; }
  }
  if (asked !== open) return;
  at('link-detail').hidden = false;
  at('link-name').textContent = links.find(one => one.name)?.name ?? id;
  if (!stale('detail', [asked, links])) return;
  fill(at('link-facts'), links.length ? links.map(block) : [make('p', { className: 'none', textContent: 'It is not linked.' })]);
}

const fact = (name, ...value) => make('div', {}, make('dt', { textContent: name }), make('dd', {}, ...value));
const list = names => names.length ? names.join(', ') : '–';

function block(one) {
  const is = one.source === 'shopify' ? ' --source shopify' : '';
  const commands = [
    one.login_url && fact('Login address', copyable(one.login_url, 'the login address')),
    one.login_url && one.source === 'facebook' && fact('A one-time login link', copyable(`pagesyncd session --user ${one.user}`, 'the command for a one-time login link')),
    fact('Read it now', copyable(`pagesyncd sync ${one.id} --user ${one.user}${is}`, 'the command that reads it now')),
    fact('Its log', copyable(`journalctl -u pagesyncd LINK=${one.source}:${one.id}`, 'the command that shows its log')),
    one.health !== 'active' && fact('More on this health', copyable(`pagesyncd explain ${one.health}`, 'the command that explains its health')),
  ].filter(Boolean);
  const health = make('p', { className: 'health' }, make('span', { className: 'badge', textContent: words(one.health), data: { health: one.health } }));
  if (one.reason) health.append(' ', sentence(one.reason));
  if (one.remedy) health.append(' ', make('b', { textContent: `What to do: ${one.remedy}.` }));
  return make('article', { data: { user: one.user } }, health,
    one.warning && make('p', { className: 'note', textContent: one.warning }),
    make('dl', { className: 'facts' },
      fact(one.source === 'shopify' ? 'Shop' : 'Page', make('code', { textContent: one.id })),
      fact('User', make('code', { textContent: one.user })),
      one.since && fact('Stopped', moment(one.since)),
      one.until && fact('Until', moment(one.until)),
      fact('Pending', one.pending ? make('span', {}, reasons(one), ', ', moment(one.pending.since)) : 'nothing'),
      fact('Last change', moment(one.object_changed_at)), fact('Last read', moment(one.last_read_at)),
      fact('Next poll', moment(one.next_poll_at)), fact('Linked', moment(one.linked_at)),
      fact('Token checked', moment(one.checked_at)), fact('Token ends', moment(one.token_expires_at, 'no end known')),
      one.data_access_expires_at && fact('Data access ends', moment(one.data_access_expires_at)),
      one.daemon !== undefined && fact('Daemon', String(one.daemon)),
      fact('Webhook fields', list(one.webhook_fields)),
      one.refused_webhook_fields.length > 0 && fact('Refused webhook fields', list(one.refused_webhook_fields))),
    make('dl', { className: 'commands' }, ...commands));
}
