// What is drawn of a workflow: a node for each job while there are few, otherwise one for many that are alike.
//
// The ways to put jobs together, finest first: none; siblings, which depend on the same and on which the same depends; all
// of a kind that are as deep; all of a kind within some levels. The first that gives a drawing one can read is taken. So
// 10,000 jobs are a drawing of some nodes, whatever hangs on what.

import type { Item, Items } from './jobs';

export interface Node {
  /** Stays the same while the jobs are the same. */
  key: string;
  /** From left to right, without gaps. */
  column: number;
  ids: string[];
}

export interface Shape {
  /** By column, and by age within each. */
  nodes: Node[];
  /** From one that must be done first to one that waits for it, as places in `nodes`. */
  links: { from: number; to: number }[];
}

const MOST_NODES = 80;
const MOST_IN_A_COLUMN = 14;
const MOST_COLUMNS = 30;
const MOST_LINKS = 240;
/** In one column; the jobs of the others make one node. */
const MOST_KINDS = 8;
/** Fewer columns than these are never put together. */
const FEW_COLUMNS = 6;

interface Known extends Item {
  id: string;
  /** Place among all, oldest first. */
  index: number;
  /** The longest way to it from a job that depends on nothing. */
  level: number;
  from: number[];
  to: number[];
}

type Way = (known: Known) => string;

export function shapeOf(items: Items): Shape {
  const jobs = levelled(items);
  const deepest = jobs.reduce((most, { level }) => Math.max(most, level), 0);
  const kinds = commonKinds(jobs);
  const kindOf = ({ job }: Known) => (kinds.has(job.kind) ? job.kind : '');
  const within =
    (levels: number): Way =>
    (known) =>
      `${Math.floor(known.level / levels)} ${kindOf(known)}`;
  const ways: { way: Way; levels: number }[] = [
    { way: ({ id }) => id, levels: 1 },
    { way: ({ job, from, to }) => `${job.kind} ${from.join()} ${to.join()}`, levels: 1 },
  ];
  let levels = 1;
  for (; ; levels *= 2) {
    ways.push({ way: within(levels), levels });
    if ((deepest + 1) / levels <= FEW_COLUMNS) break;
  }
  let shape: Shape = { nodes: [], links: [] };
  for (const { way, levels } of ways) {
    shape = gathered(jobs, way, levels);
    if (isReadable(shape)) break;
  }
  return shape;
}

/** Ids rise with age, and a job is younger than those it depends on. */
function levelled(items: Items): Known[] {
  const ids = [...items.keys()].sort();
  const places = new Map(ids.map((id, index) => [id, index]));
  const jobs: Known[] = [];
  for (const [index, id] of ids.entries()) {
    const item = items.get(id) as Item;
    const from = item.parents.flatMap((parent) => places.get(parent) ?? []).filter((place) => place < index).sort((a, b) => a - b);
    const known: Known = { ...item, id, index, level: 0, from, to: [] };
    for (const place of from) {
      const parent = jobs[place] as Known;
      parent.to.push(index);
      known.level = Math.max(known.level, parent.level + 1);
    }
    jobs.push(known);
  }
  return jobs;
}

function commonKinds(jobs: Known[]): ReadonlySet<string> {
  const counts = new Map<string, number>();
  for (const { job } of jobs) counts.set(job.kind, (counts.get(job.kind) ?? 0) + 1);
  const kinds = [...counts].sort((a, b) => b[1] - a[1]).map(([kind]) => kind);
  return new Set(kinds.length <= MOST_KINDS ? kinds : kinds.slice(0, MOST_KINDS - 1));
}

function gathered(jobs: Known[], way: Way, levels: number): Shape {
  const byKey = new Map<string, { node: Node; first: number }>();
  const nodeOf: Node[] = [];
  for (const known of jobs) {
    const key = way(known);
    let entry = byKey.get(key);
    if (!entry) {
      entry = { node: { key, column: Math.floor(known.level / levels), ids: [] }, first: known.index };
      byKey.set(key, entry);
    }
    entry.node.ids.push(known.id);
    nodeOf.push(entry.node);
  }
  const nodes = [...byKey.values()].sort((a, b) => a.node.column - b.node.column || a.first - b.first).map(({ node }) => node);
  const places = new Map(nodes.map((node, place) => [node, place]));
  const links = new Map<string, { from: number; to: number }>();
  for (const known of jobs) {
    const to = nodeOf[known.index] as Node;
    for (const place of known.from) {
      const from = nodeOf[place] as Node;
      if (from.column >= to.column) continue;
      const link = { from: places.get(from) as number, to: places.get(to) as number };
      links.set(`${link.from} ${link.to}`, link);
    }
  }
  return { nodes, links: [...links.values()] };
}

function isReadable({ nodes, links }: Shape): boolean {
  const columns: number[] = [];
  for (const { column } of nodes) columns[column] = (columns[column] ?? 0) + 1;
  const tallest = columns.reduce((most, size) => Math.max(most, size), 0);
  return nodes.length <= MOST_NODES && tallest <= MOST_IN_A_COLUMN && columns.length <= MOST_COLUMNS && links.length <= MOST_LINKS;
}
