// Where the nodes of a graph stand, and how the lines between them run: columns from left to right, as Sugiyama, Tagawa
// and Toda have it. Lines that pass a column get a place of their own in it; those of one origin share it.

import type { Shape } from './shape';

export const NODE_WIDTH = 184;
export const NODE_HEIGHT = 54;
const GAP_BESIDE = 48;
const GAP_BELOW = 14;
/** A line that passes takes less room than a node. */
const PASSING_HEIGHT = 8;
const SWEEPS = 12;

export interface Layout {
  width: number;
  height: number;
  /** The upper left corner of each node. */
  nodes: { x: number; y: number }[];
  /** The path of each link, for SVG. */
  links: string[];
}

interface Vertex {
  column: number;
  height: number;
  /** Of its middle. */
  y: number;
  passing: boolean;
  left: number[];
  right: number[];
}

export function layOut({ nodes, links }: Shape): Layout {
  const vertices: Vertex[] = nodes.map(({ column }) => ({ column, height: NODE_HEIGHT, y: 0, passing: false, left: [], right: [] }));
  const routes = route(links, vertices);
  const columns: number[][] = [];
  for (const [place, { column }] of vertices.entries()) (columns[column] ??= []).push(place);
  order(columns, vertices);
  spread(columns, vertices);
  const top = Math.min(...vertices.map(({ y, height }) => y - height / 2), 0);
  for (const vertex of vertices) vertex.y -= top;
  const x = (vertex: Vertex) => vertex.column * (NODE_WIDTH + GAP_BESIDE);
  return {
    width: columns.length * (NODE_WIDTH + GAP_BESIDE) - GAP_BESIDE,
    height: Math.max(...vertices.map(({ y, height }) => y + height / 2), 0),
    nodes: vertices.slice(0, nodes.length).map((vertex) => ({ x: x(vertex), y: vertex.y - NODE_HEIGHT / 2 })),
    links: routes.map((way) => {
      const [start, ...rest] = way.map((place) => vertices[place] as Vertex);
      return start ? path(start, rest, x) : '';
    }),
  };
}

/** The vertices that each link goes through. Vertices for passing lines are added. */
function route(links: Shape['links'], vertices: Vertex[]): number[][] {
  const passing = new Map<string, number>();
  const joined = new Set<string>();
  return links.map(({ from, to }) => {
    const way = [from];
    const end = vertices[to]?.column ?? 0;
    for (let column = (vertices[from]?.column ?? 0) + 1; column < end; column += 1) {
      const key = `${from} ${column}`;
      const place = passing.get(key) ?? vertices.push({ column, height: PASSING_HEIGHT, y: 0, passing: true, left: [], right: [] }) - 1;
      passing.set(key, place);
      way.push(place);
    }
    way.push(to);
    for (let step = 1; step < way.length; step += 1) {
      const [a, b] = [way[step - 1] as number, way[step] as number];
      if (joined.has(`${a} ${b}`)) continue;
      joined.add(`${a} ${b}`);
      vertices[a]?.right.push(b);
      vertices[b]?.left.push(a);
    }
    return way;
  });
}

/** Puts each vertex near the middle of its neighbours' places, there and back, so that few lines cross. */
function order(columns: number[][], vertices: Vertex[]): void {
  const places: number[] = [];
  const note = (column: number[]) => {
    for (const [place, vertex] of column.entries()) places[vertex] = place;
  };
  columns.forEach(note);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forth = sweep % 2 === 0;
    for (const column of forth ? columns : columns.toReversed()) {
      const wanted = new Map(
        column.map((vertex) => {
          const neighbours = (forth ? vertices[vertex]?.left : vertices[vertex]?.right) ?? [];
          return [vertex, mean(neighbours.map((neighbour) => places[neighbour] ?? 0)) ?? places[vertex] ?? 0];
        }),
      );
      column.sort((a, b) => (wanted.get(a) ?? 0) - (wanted.get(b) ?? 0));
      note(column);
    }
  }
}

/** Heights: each as near to its neighbours as the others in its column let it. */
function spread(columns: number[][], vertices: Vertex[]): void {
  for (const column of columns) settle(column, vertices, () => 0);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forth = sweep % 2 === 0;
    for (const column of forth ? columns : columns.toReversed()) {
      settle(column, vertices, (vertex) => {
        const neighbours = forth ? vertex.left : vertex.right;
        return mean(neighbours.map((neighbour) => vertices[neighbour]?.y ?? 0)) ?? vertex.y;
      });
    }
  }
}

/** Pushed apart downwards, and upwards; what lies between both keeps the distances too. */
function settle(column: number[], vertices: Vertex[], wanted: (vertex: Vertex) => number): void {
  const list = column.map((place) => vertices[place] as Vertex);
  const want = list.map(wanted);
  const apart = (index: number) => ((list[index - 1]?.height ?? 0) + (list[index]?.height ?? 0)) / 2 + GAP_BELOW;
  const down = [...want];
  for (let index = 1; index < list.length; index += 1) {
    down[index] = Math.max(want[index] ?? 0, (down[index - 1] ?? 0) + apart(index));
  }
  const up = [...want];
  for (let index = list.length - 2; index >= 0; index -= 1) {
    up[index] = Math.min(want[index] ?? 0, (up[index + 1] ?? 0) - apart(index + 1));
  }
  for (const [index, vertex] of list.entries()) vertex.y = ((down[index] ?? 0) + (up[index] ?? 0)) / 2;
}

function path(start: Vertex, rest: Vertex[], x: (vertex: Vertex) => number): string {
  let from = { x: x(start) + NODE_WIDTH, y: start.y };
  let drawn = `M${from.x} ${from.y.toFixed(1)}`;
  for (const vertex of rest) {
    const to = { x: x(vertex), y: vertex.y };
    const middle = (from.x + to.x) / 2;
    drawn += `C${middle} ${from.y.toFixed(1)} ${middle} ${to.y.toFixed(1)} ${to.x} ${to.y.toFixed(1)}`;
    if (vertex.passing) drawn += `h${NODE_WIDTH}`;
    from = { x: to.x + NODE_WIDTH, y: to.y };
  }
  return drawn;
}

function mean(values: number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}
