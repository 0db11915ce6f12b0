// The views of the daemon, live: one stream of events, and the reads that follow from them. The sandbox's console runs the
// same.

import { lazily } from './base.js';
import { showDetail } from './detail.js';
import { refreshLinks } from './links.js';
import { showDaemons, showIdentity, showOverview } from './overview.js';
import { refreshPending, showPendingFacts } from './pending.js';
import { happened } from './recent.js';
import { isStatus, onView, view } from './views.js';
import { refreshWaiting } from './waiting.js';
import { noteStatus } from './why.js';

const refreshers = { links: () => Promise.all([refreshLinks(), showDetail()]), waiting: refreshWaiting, pending: refreshPending };
// What is out of view is not asked for.
const refresh = lazily(250, () => refreshers[view()]?.());
onView(name => refreshers[name]?.()?.catch(() => {}));

function show(status) {
  noteStatus(status);
  showOverview(status);
  showIdentity(status);
  showDaemons(status);
  showPendingFacts(status);
}

let stream = null, report = () => {}, again = null;

function connect() {
  clearTimeout(again);
  stream?.close();
  stream = new EventSource('/v1/events');
  stream.onopen = () => { report('running', 'live'); refresh(); };
  stream.onerror = () => {
    report('stopped', 'no connection');
    // A browser gives a stream up for good when it is refused; the daemon may be back a moment later.
    if (stream?.readyState === EventSource.CLOSED) again = setTimeout(connect, 2000);
  };
  stream.addEventListener('status', message => { show(JSON.parse(message.data)); refresh(); });
  stream.addEventListener('links', refresh);
  stream.addEventListener('event', message => { happened(JSON.parse(message.data)); refresh(); });
}

// A page that nobody sees takes none of the few streams that there are.
function follow() {
  const wanted = isStatus() && !document.hidden;
  if (wanted && !stream) connect();
  if (wanted || !stream) return;
  clearTimeout(again);
  stream.close();
  stream = null;
}

// `tell` takes the state of the connection, and words for it.
export function begin(tell) {
  report = tell;
  onView(follow);
  document.addEventListener('visibilitychange', follow);
  follow();
}
