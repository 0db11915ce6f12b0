// The status page of a daemon.

import { address, at, set } from './base.js';
import { begin } from './status.js';
import { showView } from './views.js';

begin((state, text) => { at('live').dataset.state = state; set(at('live'), 'textContent', text); });
showView(address.get('view', 'links'));
