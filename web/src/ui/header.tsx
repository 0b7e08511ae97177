import { useComputed, useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { isOperator, mayChangeJobs, session, signOut, viewer } from '../api/session';
import { connections, link, reconnectNow } from '../api/socket';
import { path } from '../router';
import { isDark, setTheme } from './theme';

const PAGES = [
  { href: '/ui/jobs', name: 'Jobs', offered: viewer },
  { href: '/ui/submit', name: 'Submit', offered: mayChangeJobs },
  { href: '/ui/queues', name: 'Queues', offered: isOperator },
  { href: '/ui/workers', name: 'Workers', offered: isOperator },
];

export function Header() {
  const signedIn = session.value.state === 'signed-in';
  return (
    <header class="header">
      <a class="brand" href="/ui/jobs">
        jobql
      </a>
      <nav aria-label="Main">
        {signedIn &&
          PAGES.filter((page) => page.offered.value).map((page) => {
            const here = path.value === page.href || (page.href === '/ui/jobs' && /^\/ui\/(jobs|workflows)\//.test(path.value));
            return (
              <a key={page.href} href={page.href} aria-current={here ? 'page' : undefined}>
                {page.name}
              </a>
            );
          })}
        <a href="/graphiql">
          GraphiQL
        </a>
      </nav>
      <div class="header-end">
        {signedIn && <LinkState />}
        {signedIn && <Who />}
        <button
          type="button"
          class="button button-quiet theme"
          aria-label={isDark.value ? 'Light colours' : 'Dark colours'}
          title={isDark.value ? 'Light colours' : 'Dark colours'}
          onClick={() => setTheme(isDark.value ? 'light' : 'dark')}
        >
          <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
            <path d="M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2" />
            <path class="filled" d="M8 2a6 6 0 0 1 0 12z" />
          </svg>
        </button>
      </div>
    </header>
  );
}

function Who() {
  const current = session.value;
  if (current.state !== 'signed-in' || !current.withToken) return null;
  const { scope, clientId } = current.viewer;
  const name = clientId ?? (scope === 'OPERATOR' ? 'Operator' : 'Worker');
  return (
    <span class="who">
      <span class="who-name" title={`Signed in as ${scope.toLowerCase()}${clientId ? ` ${clientId}` : ''}`}>
        {name}
      </span>
      <button type="button" class="button button-quiet" onClick={signOut}>
        Sign out
      </button>
    </span>
  );
}

/** How the connection is. A short loss is no news; "back again" is said once. */
function LinkState() {
  const tick = useSignal(Date.now());
  const back = useSignal(false);
  const state = link.value;
  useEffect(() => {
    if (state.state !== 'waiting') return;
    tick.value = Date.now();
    const timer = setInterval(() => (tick.value = Date.now()), 500);
    return () => clearInterval(timer);
  }, [state]);
  const times = connections.value;
  useEffect(() => {
    if (times <= 1) return;
    back.value = true;
    const timer = setTimeout(() => (back.value = false), 4_000);
    return () => clearTimeout(timer);
  }, [times]);
  const seconds = useComputed(() => {
    const now = link.value;
    return now.state === 'waiting' ? Math.max(Math.ceil((now.until - tick.value) / 1_000), 0) : 0;
  }).value;
  if (state.state === 'connected') {
    return (
      <span class="link link-up" role="status" data-link="connected">
        <span class="dot dot-live" aria-hidden="true" />
        <span class={back.value ? '' : 'wide-only'}>{back.value ? 'Connected again' : 'Connected'}</span>
      </span>
    );
  }
  if (state.state === 'connecting') {
    return (
      <span class="link link-down" role="status" data-link="connecting">
        <span class="dot" aria-hidden="true" />
        Connecting…
      </span>
    );
  }
  return (
    <span class="link link-down" data-link="waiting">
      <span class="dot" aria-hidden="true" />
      {/* Read out once, not each second. */}
      <span class="hidden" role="status">
        Disconnected
      </span>
      <span>Reconnecting in {seconds} s</span>
      <button type="button" class="link-now" onClick={reconnectNow}>
        Now
      </button>
    </span>
  );
}
