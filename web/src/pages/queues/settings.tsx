import { useSignal } from '@preact/signals';
import { useId } from 'preact/hooks';
import { type Answer, mutate } from '../../api/client';
import { ConfigureQueueDocument, PauseQueueDocument, type QueueOrder, ResumeQueueDocument } from '../../api/generated';
import { Confirm } from '../../ui/dialog';
import { complain, say } from '../../ui/toast';
import type { Queue } from '.';

type Question = 'pause' | 'configure';

export function Settings({ queue, seen }: { queue: Queue; seen: (queue: Queue) => void }) {
  const asking = useSignal<Question | null>(null);
  const busy = useSignal(false);
  const name = queue.name;

  const act = async <D,>(request: Promise<Answer<D>>, done: (data: D) => void) => {
    busy.value = true;
    const { data, problem } = await request;
    busy.value = false;
    if (problem) return complain(problem.message);
    asking.value = null;
    done(data);
  };
  const pause = () =>
    act(mutate(PauseQueueDocument, { name }), ({ pauseQueue }) => {
      seen(pauseQueue);
      say(`${name} is paused.`);
    });
  const resume = () =>
    act(mutate(ResumeQueueDocument, { name }), ({ resumeQueue }) => {
      seen(resumeQueue);
      say(`${name} goes on.`);
    });
  const configure = (order: QueueOrder, maxRunning: number | null) =>
    act(mutate(ConfigureQueueDocument, { name, order, maxRunning }), ({ configureQueue }) => {
      seen(configureQueue);
      say(`${name} is set.`);
    });

  return (
    <div class="buttons">
      <button type="button" class="button" onClick={() => (asking.value = 'configure')}>
        Settings…
      </button>
      {queue.paused ? (
        <button type="button" class="button button-primary" disabled={busy} onClick={() => void resume()}>
          Resume
        </button>
      ) : (
        <button type="button" class="button" disabled={busy} onClick={() => (asking.value = 'pause')}>
          Pause…
        </button>
      )}
      {asking.value === 'pause' && (
        <Confirm title={`Pause ${name}?`} action="Pause the queue" busy={busy.value} confirm={() => void pause()} close={() => (asking.value = null)}>
          <p>No job of it is started until it is resumed. What runs goes on.</p>
        </Confirm>
      )}
      {asking.value === 'configure' && <Configure queue={queue} busy={busy.value} set={configure} close={() => (asking.value = null)} />}
    </div>
  );
}

interface ConfigureProperties {
  queue: Queue;
  busy: boolean;
  set: (order: QueueOrder, maxRunning: number | null) => void;
  close: () => void;
}

const MOST = 1_000_000;

function Configure({ queue, busy, set, close }: ConfigureProperties) {
  const order = useSignal<QueueOrder>(queue.order);
  const most = useSignal(queue.maxRunning === null ? '' : String(queue.maxRunning));
  const id = useId();
  const given = most.value.trim();
  const valid = given === '' || (/^\d+$/.test(given) && Number(given) >= 1 && Number(given) <= MOST);
  return (
    <Confirm
      title={`Settings of ${queue.name}`}
      action="Set"
      busy={busy || !valid}
      confirm={() => set(order.value, given === '' ? null : Number(given))}
      close={close}
    >
      <label class="field" for={`${id}-order`}>
        Of one priority, first go
      </label>
      <select id={`${id}-order`} value={order} onChange={(event) => (order.value = event.currentTarget.value as QueueOrder)}>
        <option value="FIFO">the oldest</option>
        <option value="LIFO">the newest</option>
      </select>
      <label class="field" for={`${id}-most`}>
        Jobs that run at once, over all workers
      </label>
      <input
        id={`${id}-most`}
        inputMode="numeric"
        placeholder="No limit"
        aria-invalid={!valid}
        aria-describedby={valid ? undefined : `${id}-problem`}
        value={most}
        onInput={(event) => (most.value = event.currentTarget.value)}
      />
      {!valid && (
        <p id={`${id}-problem`} class="field-problem">
          A whole number from 1 to 1,000,000, or nothing for no limit.
        </p>
      )}
    </Confirm>
  );
}
