// What the attempts print, as they print it. The end stays in sight until one scrolls up.
//
// The stream gives all lines from the first one, without gap or repeat; after a reconnect it does so again, so as many are
// passed over as are here already. Lines are drawn in blocks that never change once they are full.

import { useSignal } from '@preact/signals';
import { memo } from './memo';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { subscribe } from '../../api/client';
import { type LogLinesSubscription, LogLinesDocument } from '../../api/generated';
import { useIsConnected } from '../../api/hooks';
import { connections } from '../../api/socket';
import { copy } from '../../ui/copy';
import { count, grouped } from '../../ui/number';

type Line = LogLinesSubscription['jobLogAppended'];

const BLOCK = 250;
/** More lines than this are not kept in the page; the oldest go. */
const MOST_BLOCKS = 80;
/** Within so many pixels of the end one reads the end. */
const NEAR = 24;

export function Logs({ id, active }: { id: string; active: boolean }) {
  const blocks = useSignal<Line[][]>([]);
  const dropped = useSignal(0);
  const following = useSignal(true);
  const box = useRef<HTMLDivElement>(null);
  const received = useRef(0);
  const connected = useIsConnected().value;
  const total = blocks.value.reduce((sum, block) => sum + block.length, 0);

  useEffect(() => {
    if (!connected) return;
    let passOver = received.current;
    let waiting: Line[] = [];
    let frame = 0;
    const apply = () => {
      frame = 0;
      let list = append(blocks.peek(), waiting);
      waiting = [];
      if (list.length > MOST_BLOCKS) {
        dropped.value += (list.length - MOST_BLOCKS) * BLOCK;
        list = list.slice(-MOST_BLOCKS);
      }
      blocks.value = list;
    };
    const stop = subscribe(LogLinesDocument, { id }, ({ jobLogAppended }) => {
      if (passOver > 0) {
        passOver -= 1;
        return;
      }
      received.current += 1;
      waiting.push(jobLogAppended);
      frame ||= requestAnimationFrame(apply);
    });
    return () => {
      stop();
      if (frame) {
        cancelAnimationFrame(frame);
        apply();
      }
    };
  }, [id, active, connected, connections.value]);

  useLayoutEffect(() => {
    if (following.value && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [blocks.value, following.value]);

  const onScroll = () => {
    const { scrollTop, clientHeight, scrollHeight } = box.current as HTMLDivElement;
    following.value = scrollHeight - scrollTop - clientHeight < NEAR;
  };
  const text = () => blocks.peek().flat().map((line) => line.text).join('\n');
  return (
    <section class="panel logs-panel" aria-label="Log">
      <div class="logs-head">
        <h2>Log</h2>
        <span class="muted">{total > 0 ? count(total + dropped.value, 'line') : ''}</span>
        {total > 0 && (
          <div class="buttons">
            <button type="button" class="button" aria-pressed={following} onClick={() => (following.value = !following.value)}>
              {following.value ? 'Following' : 'Follow'}
            </button>
            <button type="button" class="button" onClick={() => void copy(text(), 'Log')}>
              Copy
            </button>
          </div>
        )}
      </div>
      {total === 0 ? (
        <p class="muted">{active ? 'Nothing printed yet.' : 'It printed nothing.'}</p>
      ) : (
        <div ref={box} class="logs" role="region" aria-label="Log lines" tabIndex={0} onScroll={onScroll}>
          {dropped.value > 0 && <p class="muted">{grouped(dropped.value)} earlier lines are not shown.</p>}
          {blocks.value.map((block, index) => (
            <Block key={index + dropped.value / BLOCK} lines={block} before={blocks.value[index - 1]?.at(-1)?.attempt ?? null} />
          ))}
        </div>
      )}
    </section>
  );
}

/** Full blocks stay the same objects, so that they are not drawn again. */
function append(blocks: Line[][], lines: Line[]): Line[][] {
  const list = [...blocks];
  let rest = lines;
  while (rest.length > 0) {
    const last = list.at(-1);
    if (last && last.length < BLOCK) {
      const room = BLOCK - last.length;
      list[list.length - 1] = [...last, ...rest.slice(0, room)];
      rest = rest.slice(room);
    } else {
      list.push(rest.slice(0, BLOCK));
      rest = rest.slice(BLOCK);
    }
  }
  return list;
}

const Block = memo(function Block({ lines, before }: { lines: Line[]; before: number | null }) {
  return (
    <div class="log-block">
      {lines.map((line, index) => {
        const first = line.attempt !== (index === 0 ? before : lines[index - 1]?.attempt);
        return (
          <>
            {first && line.attempt > 1 && <p class="log-attempt">Attempt {line.attempt}</p>}
            <p class={`log-line log-${line.stream.toLowerCase()}`}>
              <time dateTime={line.at}>{line.at.slice(11, 23)}</time>
              <span>{line.text}</span>
            </p>
          </>
        );
      })}
    </div>
  );
});
