import { Empty } from './states';

/** What a client's or a worker's token is told in place of a page. */
export function OperatorsOnly({ what }: { what: string }) {
  return (
    <Empty title={`${what} are the operator’s`}>
      <p>This token sees jobs only.</p>
      <a class="button" href="/ui/jobs">
        To the jobs
      </a>
    </Empty>
  );
}
