// The workflow as a graph: what must be done first stands on the left. Lines are SVG, nodes are links and buttons on top of
// it, in the order in which they run. One of them is reached by Tab, the others from there by the arrow keys.

import { useSignal } from '@preact/signals';
import { useLayoutEffect, useMemo, useRef } from 'preact/hooks';
import { count, grouped } from '../../ui/number';
import { STATUSES, StatusIcon, WORDS } from '../../ui/status';
import { type Counts, type Item, type Items, countsOf } from './jobs';
import { NODE_HEIGHT, NODE_WIDTH, layOut } from './layout';
import { type Node, shapeOf } from './shape';
import { StatusBar } from './status-bar';

interface Properties {
  items: Items;
  /** The key of the node whose jobs are listed below. */
  open: string | null;
  choose: (node: Node) => void;
}

/** So many neighbours are told by name. */
const NAMED = 3;
/** A graph is made this much smaller so that it fits; one that would not fit then either is scrolled, and can be read. */
const SMALLEST = 0.75;

export function Graph({ items, open, choose }: Properties) {
  const shape = useMemo(() => shapeOf(items), [items]);
  const layout = useMemo(() => layOut(shape), [shape]);
  const frame = useRef<HTMLDivElement>(null);
  const box = useRef<HTMLUListElement>(null);
  const room = useSignal(0);
  useLayoutEffect(() => {
    const place = frame.current;
    if (!place) return;
    const measure = () => {
      const { paddingLeft, paddingRight } = getComputedStyle(place);
      room.value = place.clientWidth - Number.parseFloat(paddingLeft) - Number.parseFloat(paddingRight);
    };
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(place);
    return () => watch.disconnect();
  }, []);
  const fitting = room.value / layout.width;
  const zoom = fitting >= SMALLEST && fitting < 1 ? fitting : 1;
  const reached = useSignal(0);
  const before = useMemo(() => neighbours(shape.links, 'to', 'from'), [shape]);
  const after = useMemo(() => neighbours(shape.links, 'from', 'to'), [shape]);
  const counts = shape.nodes.map((node) => countsOf(jobsOf(node, items)));
  const tab = Math.min(reached.value, shape.nodes.length - 1);

  const go = (place: number) => {
    reached.value = place;
    box.current?.querySelectorAll<HTMLElement>('.node')[place]?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const next = step(event.key, tab, shape.nodes, layout.nodes, before, after);
    if (next === null) return;
    event.preventDefault();
    go(next);
  };
  const name = (place: number) => nodeName(shape.nodes[place] as Node, items);
  const around = (places: number[]) => {
    const names = places.slice(0, NAMED).map(name).join(', ');
    return places.length > NAMED ? `${names} and ${places.length - NAMED} more` : names;
  };
  return (
    <div ref={frame} class="graph-frame">
      <div class="graph" style={{ width: `${layout.width}px`, height: `${layout.height}px`, zoom: String(zoom) }}>
        <svg class="graph-lines" width={layout.width} height={layout.height} aria-hidden="true">
          {shape.links.map(({ from, to }, index) => (
            <path key={`${from} ${to}`} class={`line line-${lineTone(counts[from] as Counts)}`} d={layout.links[index]} />
          ))}
        </svg>
        <ul ref={box} class="graph-nodes" aria-label="Jobs of the workflow, by what must be done first" onKeyDown={onKeyDown}>
          {shape.nodes.map((node, place) => {
            const told = [
              (before[place] ?? []).length > 0 ? `after ${around(before[place] ?? [])}` : '',
              (after[place] ?? []).length > 0 ? `before ${around(after[place] ?? [])}` : '',
            ].filter((part) => part !== '');
            const { x = 0, y = 0 } = layout.nodes[place] ?? {};
            return (
              <li key={node.key} style={{ left: `${x}px`, top: `${y}px`, width: `${NODE_WIDTH}px`, height: `${NODE_HEIGHT}px` }}>
                <GraphNode
                  node={node}
                  items={items}
                  counts={counts[place] as Counts}
                  told={told.join(', ')}
                  tabIndex={place === tab ? 0 : -1}
                  open={open === node.key}
                  reach={() => (reached.value = place)}
                  choose={choose}
                />
              </li>
            );
          })}
        </ul>
      </div>
    </div>
  );
}

interface NodeProperties {
  node: Node;
  items: Items;
  counts: Counts;
  told: string;
  tabIndex: number;
  open: boolean;
  reach: () => void;
  choose: (node: Node) => void;
}

function GraphNode({ node, items, counts, told, tabIndex, open, reach, choose }: NodeProperties) {
  const [item, ...others] = jobsOf(node, items);
  if (!item) return null;
  const { job } = item;
  const name = nodeName(node, items);
  if (others.length === 0) {
    const fraction = job.status === 'RUNNING' ? job.progress?.fraction : null;
    const word = job.status === 'RUNNING' && job.cancelRequestedAt ? 'Stopping' : WORDS[job.status];
    const state = fraction != null ? `${word}, ${Math.floor(fraction * 100)} %` : word;
    return (
      <a
        class={`node node-${job.status.toLowerCase()}`}
        href={`/ui/jobs/${job.id}`}
        title={name}
        data-status={job.status}
        tabIndex={tabIndex}
        onFocus={reach}
      >
        <span class="node-name">{name}</span>
        <span class="node-state">
          <StatusIcon status={job.status} />
          {state}
          <span class="node-kind">{job.kind}</span>
        </span>
        <span class="hidden">{told}</span>
        {fraction != null && <span class="node-progress" style={{ width: `${fraction * 100}%` }} />}
      </a>
    );
  }
  const parts = STATUSES.filter((status) => counts[status] > 0).map((status) => `${grouped(counts[status])} ${WORDS[status].toLowerCase()}`);
  return (
    <button
      type="button"
      class={`node node-many many-${tone(counts, node.ids.length)}`}
      title={name}
      aria-expanded={open}
      data-jobs={node.ids.length}
      tabIndex={tabIndex}
      onFocus={reach}
      onClick={() => choose(node)}
    >
      <span class="node-name">{name}</span>
      <span class="node-state">{summary(counts, node.ids.length)}</span>
      <span class="hidden">{[...parts, told].filter(Boolean).join(', ')}</span>
      <StatusBar counts={counts} />
    </button>
  );
}

/** What one should see of many at a glance. */
function tone(counts: Counts, total: number): string {
  if (counts.ERROR > 0) return 'error';
  if (counts.RUNNING > 0) return 'running';
  return counts.DONE === total ? 'done' : 'open';
}

/** What matters most of many: what failed, then how far they are. */
function summary(counts: Counts, total: number): string {
  const failed = counts.ERROR > 0 ? `${grouped(counts.ERROR)} failed, ` : '';
  const running = counts.RUNNING > 0 ? `, ${grouped(counts.RUNNING)} running` : '';
  return counts.DONE === total ? 'All done' : `${failed}${grouped(counts.DONE)} done${running}`;
}

export function nodeName(node: Node, items: Items): string {
  const jobs = jobsOf(node, items);
  const first = jobs[0]?.job;
  if (!first) return '';
  if (jobs.length === 1) return first.displayName;
  const kinds = new Set(jobs.map(({ job }) => job.kind));
  return kinds.size === 1 ? `${grouped(jobs.length)} × ${first.kind}` : `${count(jobs.length, 'job')} of ${kinds.size} kinds`;
}

export function jobsOf(node: Node, items: Items): Item[] {
  return node.ids.flatMap((id) => items.get(id) ?? []);
}

/** Of a line, by what it comes from. */
function lineTone(counts: Counts): string {
  if (counts.ERROR + counts.CANCELLED > 0) return 'failed';
  const open = counts.RUNNING + counts.PENDING + counts.SCHEDULED + counts.BLOCKED;
  return open === 0 ? 'met' : 'open';
}

function neighbours(links: { from: number; to: number }[], of: 'from' | 'to', other: 'from' | 'to'): number[][] {
  const lists: number[][] = [];
  for (const link of links) (lists[link[of]] ??= []).push(link[other]);
  return lists;
}

/** Where an arrow key leads: along a line to the nearest, or up and down in a column. */
function step(
  key: string,
  place: number,
  nodes: Node[],
  at: { x: number; y: number }[],
  before: number[][],
  after: number[][],
): number | null {
  const here = at[place];
  const column = nodes[place]?.column;
  if (!here || column === undefined) return null;
  const nearest = (places: number[]) =>
    places.reduce<number | null>((best, next) => (best === null || far(next) < far(best) ? next : best), null);
  const far = (other: number) => Math.abs((at[other]?.y ?? 0) - here.y) + Math.abs((at[other]?.x ?? 0) - here.x);
  const inColumn = (wanted: number) => nodes.flatMap((node, other) => (node.column === wanted ? [other] : []));
  const below = (other: number) => (at[other]?.y ?? 0) > here.y;
  const above = (other: number) => (at[other]?.y ?? 0) < here.y;
  switch (key) {
    case 'ArrowLeft':
      return nearest(before[place] ?? []) ?? nearest(inColumn(column - 1));
    case 'ArrowRight':
      return nearest(after[place] ?? []) ?? nearest(inColumn(column + 1));
    case 'ArrowUp':
      return nearest(inColumn(column).filter(above));
    case 'ArrowDown':
      return nearest(inColumn(column).filter(below));
    case 'Home':
      return nodes.length > 0 ? 0 : null;
    case 'End':
      return nodes.length > 0 ? nodes.length - 1 : null;
    default:
      return null;
  }
}
