"""The look of the report: system fonts, one column on a phone, light or dark as the reader has it, fit for print."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --panel: #f5f6f8; --ink: #1c2128; --soft: #57606a; --rule: #d5d9df;
  --c1: #1558b0; --c2: #b8480c; --c3: #1c7c45; --c4: #6b7280; --c5: #8b2fa8; --c6: #8a6100;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --panel: #1e2228; --ink: #e8eaed; --soft: #a6adb8; --rule: #3a4049;
    --c1: #74b0ff; --c2: #ff9d66; --c3: #5fd08f; --c4: #a3abb8; --c5: #d69bf0; --c6: #e3bd5a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .4rem 0; max-width: 48rem; }
a { color: var(--c1); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; padding: 0; margin: 1rem 0; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.lead, .against, .interval, .missing, figcaption small { color: var(--soft); }
.notice { border-left: 4px solid var(--c2); padding: .4rem .9rem; background: var(--panel); }
:focus-visible { outline: 3px solid var(--c1); outline-offset: 2px; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .3rem 1.25rem; margin: 1rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.tiles {
  list-style: none; padding: 0; margin: 1rem 0; display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(15.5rem, 1fr));
}
.tiles li { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: .8rem 1rem; }
.tiles h3 { margin: 0; font-size: .9rem; font-weight: 600; color: var(--soft); }
.tiles p { margin: 0; font-size: .9rem; }
.tiles .value { font-size: 1.9rem; line-height: 1.3; font-weight: 650; font-variant-numeric: tabular-nums; }
.tiles .verdict { font-weight: 600; }
.charts { display: grid; gap: 1rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 1rem 0; }
figcaption { font-weight: 600; margin-bottom: .3rem; }
.chart svg { display: block; width: 100%; height: auto; max-width: 44rem; }
.chart text { fill: var(--ink); font-size: 15px; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.band { stroke: none; opacity: .18; }
.c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); } .c3 { stroke: var(--c3); }
.c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); } .c6 { stroke: var(--c6); }
.c1.band, .c1.mark { fill: var(--c1); } .c2.band, .c2.mark { fill: var(--c2); } .c3.band, .c3.mark { fill: var(--c3); }
.c4.band, .c4.mark { fill: var(--c4); } .c5.band, .c5.mark { fill: var(--c5); } .c6.band, .c6.mark { fill: var(--c6); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; padding: 0; margin: .3rem 0 0; }
.legend li { display: flex; align-items: center; gap: .45rem; font-size: .9rem; }
.chart .swatch { width: 28px; height: 12px; flex: none; }
.scroll { overflow-x: auto; }
.picture img { display: block; width: 100%; min-width: 40rem; height: auto; border-radius: 6px; background: #fff; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
.verdicts { min-width: min(100%, 52rem); }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--rule); }
tbody th { font-weight: 500; }
.usage tbody th, .confusion tbody th, tbody th code { white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; }
.details { font-size: .84rem; }
.details td:nth-child(4) { min-width: 11rem; }
.details td:nth-child(8) { min-width: 15rem; }
.details td:nth-child(2) { min-width: 9rem; }
.usage td { min-width: 14rem; }
.percent { display: inline-block; width: 4rem; }
.bar {
  display: inline-block; width: calc(var(--share) * 14rem); height: .8em; background: var(--c1); border-radius: 2px;
}
.confusion td[style] { background: color-mix(in srgb, var(--c1) calc(var(--share) * 60%), transparent); }
.confusion th, .confusion td { padding: .35rem .8rem; }
.best { font-weight: 700; }
.columns td { white-space: nowrap; }
.columns td.meaning { white-space: normal; min-width: 16rem; }
summary { cursor: pointer; }
@media (max-width: 40rem) {
  body { padding: 1rem .9rem 3rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  .verdicts { min-width: 42rem; }
  .tiles { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
  .tiles .value { font-size: 1.5rem; }
}
@media print {
  :root {
    color-scheme: light;
    --paper: #fff; --panel: #fff; --ink: #000; --soft: #444; --rule: #bbb;
    --c1: #1558b0; --c2: #b8480c; --c3: #1c7c45; --c4: #6b7280; --c5: #8b2fa8; --c6: #8a6100;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  figure, .tiles li, tr { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; }
  .scroll { overflow: visible; }
  .picture img { min-width: 0; }
  .details { font-size: 7pt; }
  .details td { min-width: 0 !important; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
