// The frame of every page, and which page it is.

import { useEffect, useErrorBoundary } from 'preact/hooks';
import { session, startSession } from './api/session';
import { type Page as AnyPage, lazy, preloadWhenIdle } from './lazy';
import { JobsPage } from './pages/jobs';
import { SignIn } from './pages/sign-in';
import { navigate, path } from './router';
import { Header } from './ui/header';
import { Empty, Failed, Loading } from './ui/states';
import { Toasts } from './ui/toast';

interface Route {
  pattern: RegExp;
  title: string;
  page: AnyPage;
}

const JobPage = lazy(() => import('./pages/job').then((module) => module.JobPage));
const WorkflowPage = lazy(() => import('./pages/workflow').then((module) => module.WorkflowPage));
const SubmitPage = lazy(() => import('./pages/submit').then((module) => module.SubmitPage));
const QueuesPage = lazy(() => import('./pages/queues').then((module) => module.QueuesPage));
const WorkersPage = lazy(() => import('./pages/workers').then((module) => module.WorkersPage));

const ROUTES: Route[] = [
  { pattern: /^\/ui\/jobs$/, title: 'Jobs', page: JobsPage },
  { pattern: /^\/ui\/jobs\/([^/]+)$/, title: 'Job', page: JobPage },
  { pattern: /^\/ui\/workflows\/([^/]+)$/, title: 'Workflow', page: WorkflowPage },
  { pattern: /^\/ui\/submit$/, title: 'Submit', page: SubmitPage },
  { pattern: /^\/ui\/queues$/, title: 'Queues', page: QueuesPage },
  { pattern: /^\/ui\/workers$/, title: 'Workers', page: WorkersPage },
];

export function App() {
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Header />
      <main id="main" tabIndex={-1}>
        <Content />
      </main>
      <Toasts />
    </>
  );
}

function Content() {
  const current = session.value;
  const signedIn = current.state === 'signed-in';
  useEffect(() => {
    if (signedIn) preloadWhenIdle([JobPage, SubmitPage, WorkflowPage, QueuesPage, WorkersPage]);
  }, [signedIn]);
  if (current.state === 'starting') return <Loading what="jobql" />;
  if (current.state === 'unreachable') return <Failed problem={current.problem} retry={() => void startSession()} />;
  if (current.state === 'signed-out') return <SignIn why={current.why} />;
  return <Page key={path.value} />;
}

/** After a move between pages one goes on at the content, not where the old page had the focus. */
let moved = false;

function Page() {
  const [error, reset] = useErrorBoundary();
  const route = ROUTES.find(({ pattern }) => pattern.test(path.value));
  useEffect(() => {
    if (path.value === '/ui' || path.value === '/ui/') navigate('/ui/jobs', { replace: true });
    document.title = `${route?.title ?? 'Not found'} · jobql`;
    if (moved) document.getElementById('main')?.focus({ preventScroll: true });
    moved = true;
  }, [route]);
  if (error) {
    return (
      <Empty title="This page broke">
        <p>{error instanceof Error ? error.message : String(error)}</p>
        <button type="button" class="button" onClick={reset}>
          Show it again
        </button>
      </Empty>
    );
  }
  if (!route) return <NotFound />;
  return <route.page id={decodeURIComponent(route.pattern.exec(path.value)?.[1] ?? '')} />;
}

function NotFound() {
  return (
    <Empty title="There is no such page">
      <p>
        <a href="/ui/jobs">To the jobs</a>
      </p>
    </Empty>
  );
}
