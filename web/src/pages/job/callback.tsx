import { mutate } from '../../api/client';
import { RedeliverCallbackDocument } from '../../api/generated';
import { mayChangeJobs } from '../../api/session';
import { CallbackFacts } from '../../ui/callback-facts';
import { isTerminal } from '../../ui/status';
import { complain, say } from '../../ui/toast';
import type { Live } from '.';

interface Properties {
  job: Live;
  callback: NonNullable<Live['callback']>;
  seen: (job: Live) => void;
}

export function CallbackState({ job, callback, seen }: Properties) {
  const again = async () => {
    const { data, problem } = await mutate(RedeliverCallbackDocument, { id: job.id });
    if (problem) return complain(problem.message);
    say('The callback is sent once more.');
    seen(data.redeliverCallback);
  };
  return (
    <>
      <CallbackFacts callback={callback} ended={isTerminal(job.status)} />
      {mayChangeJobs.value && isTerminal(job.status) && (
        <button type="button" class="button" onClick={() => void again()}>
          Send it again
        </button>
      )}
    </>
  );
}
