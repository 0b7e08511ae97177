"""Draws docs/benchmarks.svg: bars of rates, ours and the peers', readable on light and on dark pages."""

from html import escape

from .rows import median, of

WIDTH, LABEL, BAR, GAP = 860, 300, 18, 7
CHARTS = [
    ("Submit, one job a request or call (jobs a second)", "submit", "jobs_per_second"),
    ("Submit, 1,000 jobs a request or call (jobs a second)", "bulk", "jobs_per_second"),
    ("Drain (jobs a second)", "drain", "jobs_per_second"),
]
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 15px }
  .value, .note { fill: #59636e }
  .ours { fill: #1a7f64 } .peer { fill: #9aa4af } .loose { fill: url(#stripes) } .line { stroke: #9aa4af }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .value, .note { fill: #9198a1 } .ours { fill: #3fb68b } .peer { fill: #57606a } .line { stroke: #57606a }
  }
"""


def bars(results, scenario, key):
    measured = results["results"].get(scenario, {})
    found = []
    for name in measured:
        value = median(of(results, scenario, name, key) or of(results, scenario, name, "requests_per_second"))
        if value is not None:
            found.append((name, value))
    return sorted(found, key=lambda bar: -bar[1])


def drawn(results):
    parts, y = [], 10
    for title, scenario, key in CHARTS:
        found = bars(results, scenario, key)
        if not found:
            continue
        y += 26
        parts.append(f'<text class="title" x="16" y="{y}">{escape(title)}</text>')
        y += 12
        longest = max(value for _, value in found)
        for name, value in found:
            length = max(1, (WIDTH - LABEL - 110) * value / longest)
            kind = "ours" if name.startswith("jobql") else "loose" if "Redis" in name else "peer"
            middle = y + BAR - 5
            parts.append(f'<text x="{LABEL - 10}" y="{middle}" text-anchor="end">{escape(shortened(name))}</text>')
            parts.append(f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{length:.0f}" height="{BAR}" rx="3"/>')
            parts.append(f'<text class="value" x="{LABEL + length + 8:.0f}" y="{middle}">{value:,.0f}</text>')
            y += BAR + GAP
        y += 12
    parts.append(f'<text class="note" x="16" y="{y + 8}">Green: jobql. Striped: acknowledges before its data is on the disk. '
                 f'Medians; how, where and how often: benchmarks.md.</text>')
    height = y + 26
    stripes = ('<defs><pattern id="stripes" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
               '<line class="line" x1="0" y1="0" x2="0" y2="6" stroke-width="5"/></pattern></defs>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-label="Rates of jobql and its peers">\n<style>{STYLE}</style>\n{stripes}\n' + "\n".join(parts) + "\n</svg>\n")


def shortened(name):
    return name.replace(", settings of its own bench", ", own bench")
