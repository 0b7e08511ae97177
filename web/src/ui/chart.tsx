// A line chart over time, drawn by uPlot in the colours of the page.

import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { isDark } from './theme';

export interface Series {
  label: string;
  /** The number of a --chart colour. */
  colour: 1 | 2 | 3 | 4;
  values: (number | null)[];
}

interface Properties {
  label: string;
  /** Seconds since 1970, rising. */
  times: number[];
  /** The whole span, also where nothing was measured. */
  from: number;
  to: number;
  series: Series[];
  height?: number;
}

export function Chart({ label, times, from, to, series, height = 140 }: Properties) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const dark = isDark.value;
  const names = series.map((each) => each.label).join();

  useEffect(() => {
    const place = box.current;
    if (!place) return;
    const colour = (name: string) => getComputedStyle(place).getPropertyValue(name).trim();
    const axis = {
      stroke: colour('--text-muted'),
      font: '11px system-ui, sans-serif',
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { stroke: colour('--line'), width: 1, size: 4 },
    };
    const drawn = new uPlot(
      {
        width: place.clientWidth,
        height,
        padding: [8, 20, 0, 0],
        cursor: { y: false, points: { size: 6 } },
        legend: { live: true },
        // Without a pointer the legend tells the newest values; left alone it would tell none.
        hooks: { setLegend: [(plot) => plot.legend.idx == null && plot.setLegend({ idx: plot.data[0].length - 1 }, false)] },
        scales: { x: { time: true, range: () => [bounds.current.from, bounds.current.to] }, y: { range: (_, __, most) => [0, Math.max(most * 1.1, 4)] } },
        axes: [
          { ...axis, grid: { show: false }, size: 30, space: 70, values: '{HH}:{mm}' },
          { ...axis, size: 46, space: 34, values: (_, splits) => splits.map((split) => (Number.isInteger(split) ? compact(split) : '')) },
        ],
        series: [
          { value: '{HH}:{mm}' },
          ...series.map((each) => ({
            label: each.label,
            stroke: colour(`--chart-${each.colour}`),
            width: 1.6,
            fill: `color-mix(in srgb, ${colour(`--chart-${each.colour}`)} 12%, transparent)`,
            points: { show: false },
            spanGaps: false,
          })),
        ],
      },
      data.current,
      place,
    );
    chart.current = drawn;
    const watch = new ResizeObserver(() => drawn.setSize({ width: place.clientWidth, height }));
    watch.observe(place);
    return () => {
      watch.disconnect();
      drawn.destroy();
      chart.current = null;
    };
  }, [dark, names, height]);

  const data = useRef<uPlot.AlignedData>([[]]);
  const bounds = useRef({ from, to });
  data.current = [times, ...series.map((each) => each.values)] as uPlot.AlignedData;
  bounds.current = { from, to };
  useEffect(() => {
    chart.current?.setData(data.current);
  }, [times, series]);

  const last = series.map((each) => `${each.label} ${each.values.findLast((value) => value !== null) ?? 0}`).join(', ');
  return (
    <figure class="chart">
      <figcaption class="hidden">
        {label}. At the end: {last}.
      </figcaption>
      <div ref={box} class="chart-box" aria-hidden="true" />
    </figure>
  );
}

function compact(value: number): string {
  return value >= 10_000 ? `${Math.round(value / 1_000)}k` : String(value);
}
