// The status page of the daemon, and the world around it: a stream of the world's events, and a few reads that follow
// from them.

import { act, ask, at, lazily, make, onRefresh, address, refresh } from './base.js';
import { showDaemons } from './daemons.js';
import { catchUp, happened, showLatency } from './feed.js';
import { isSelected, pageSoon, select, showPage, showPageActs, showRows } from './pages.js';
import { onSelect, showDaemon, showDifferences, showFaults, showEvents, showPersons, showTab } from './panels.js';
import { showShop, showShops } from './shops.js';
import { begin } from '/assets/status.js';
import { showView } from '/assets/views.js';

let users = '';

async function showState() {
  const state = await ask('state');
  showDaemon(state.daemon, state.status);
  showDaemons(state.daemons);
  at('flow-facebook').textContent = state.undelivered ? `${state.undelivered} webhooks waiting` : `${state.pages} pages`;
  at('flow-spaces').textContent = `${state.objects} object${state.objects === 1 ? '' : 's'}, ${state.puts} writes`;
  at('step-link').classList.toggle('done', state.objects > 0);
  at('shuffle-count').textContent = Math.min(Math.max(state.objects, 5), 1000);
  showFaults(state.faults, state.shops.reduce((sum, shop) => sum + shop.faults, 0));
  showShops(state.shops);
  showPersons(state);
  showPageActs(state.acts.page);
  showEvents(state.events, state.status);
  showDifferences(state.differs);
  showLatency(state.last_edit);
  if (users !== JSON.stringify(state.users)) {
    users = JSON.stringify(state.users);
    at('login-user').replaceChildren(...state.users.map((user, n) =>
      make('option', { value: user, textContent: `User ${n + 1} (${user.slice(0, 4)}…)` })));
    at('login-user').value = state.users.includes(address.get('user')) ? address.get('user') : state.users[0];
  }
  // A click before the users are known would log nobody in.
  at('login').disabled = !state.users.length;
  at('violations').hidden = state.violations.length === 0;
  at('violations').textContent = state.violations.slice(-5).join('\n');
}

function connect() {
  const stream = new EventSource('/api/events');
  const live = at('live');
  stream.onopen = async () => {
    live.dataset.state = 'running';
    live.textContent = 'live';
    refresh();
    try { await catchUp(); } catch { /* the stream ends too, and comes again */ }
  };
  stream.onerror = () => {
    live.dataset.state = 'stopped';
    live.textContent = 'sandbox is gone';
    // A browser gives a stream up for good when it is refused; a refreshed world is worth another try.
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
  stream.addEventListener('world', message => {
    const fresh = happened(JSON.parse(message.data));
    if (fresh.some(event => isSelected(event.page))) pageSoon();
    refresh();
  });
  stream.addEventListener('daemon', message => {
    const { daemon, daemons, status } = JSON.parse(message.data);
    showDaemon(daemon, status);
    showDaemons(daemons);
    refresh();
  });
  stream.addEventListener('lagged', () => { catchUp(); refresh(); });
}

// The scroll position is kept too. The content above it arrives step by step, so the position is set again until it
// fits or the person scrolls.
function keepScroll() {
  const wanted = { y: address.number('y'), panel: address.number('panel') };
  history.scrollRestoration = 'manual';
  let restoring = wanted.y > 0 || wanted.panel > 0;
  const settle = () => { restoring = false; };
  for (const kind of ['wheel', 'touchstart', 'keydown', 'pointerdown']) addEventListener(kind, settle, { once: true, passive: true });
  setTimeout(settle, 5000);
  const restore = () => {
    if (!restoring) return;
    scrollTo(0, wanted.y);
    at('panels').scrollTop = wanted.panel;
    if (Math.abs(scrollY - wanted.y) < 2 && Math.abs(at('panels').scrollTop - wanted.panel) < 2) return;
    requestAnimationFrame(restore);
  };
  restore();
  const note = lazily(250, async () => {
    if (restoring && (scrollY < wanted.y - 2 || at('panels').scrollTop < wanted.panel - 2)) return;
    address.set('y', Math.round(scrollY));
    address.set('panel', Math.round(at('panels').scrollTop));
  });
  addEventListener('scroll', note, { passive: true });
  at('panels').addEventListener('scroll', note, { passive: true });
}

at('login').onclick = async () => {
  // Opened within the click, or the browser takes it for an unwanted window.
  const tab = window.open('about:blank', '_blank');
  const done = await act('login', { user: at('login-user').value });
  if (!done) { tab?.close(); return; }
  if (tab) { tab.opener = null; tab.location = done.url; } else location.assign(done.url);
};
at('login-user').onchange = () => address.set('user', at('login-user').value);
at('shuffle').onclick = () => act('shuffle', { count: Number(at('shuffle-count').textContent) });

onSelect(page => { if (document.body.dataset.tab !== 'pages' && matchMedia('(max-width: 960px)').matches) showTab('pages'); select(page); });
onRefresh(showState);
onRefresh(showRows);
onRefresh(showPage);
onRefresh(showShop);
showTab(address.get('tab', 'pages'));
// The pill shows the connection to the sandbox itself. That to the daemon comes and goes with the daemon.
begin(() => {});
showView(address.get('view', 'world'));
keepScroll();
connect();
refresh();
