// The look of a changelog's page, in light and dark.
export const changelogStyle = `
:root {
  color-scheme: light dark;
  --ground: #fff; --panel: #f6f7f9; --line: #dfe3e8; --text: #1d2329; --dim: #5f6b76; --link: #0b5cad;
  --green: #1a7f4b; --red: #b3372f; --amber: #b07400; --blue: #2463b5; --violet: #7a4bb8; --grey: #9aa5b0;
  --plus: #e2f5e9; --minus: #fbe6e4; --bar: #7fa7d9; --gone: #d99a95;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14181d; --panel: #1c2229; --line: #323b45; --text: #e3e8ed; --dim: #9aa7b4; --link: #7ab4f5;
    --green: #58c88c; --red: #f0857c; --amber: #e3b34c; --blue: #7ab4f5; --violet: #bd99ef; --grey: #66727e;
    --plus: #16331f; --minus: #3b1d1c; --bar: #41688f; --gone: #7a3f3b;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
header, main, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
footer { padding: 2rem 1.25rem; color: var(--dim); font-size: .85rem; }
h1 { margin: 0; font-size: 2.1rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.4rem 0 .6rem; font-size: 1.15rem; }
.arrow { color: var(--dim); font-weight: 400; }
.project { margin: 0; color: var(--dim); font-weight: 600; }
.when { margin: .3rem 0 1rem; color: var(--dim); }
.dim { color: var(--dim); font-size: .9rem; }
.summary { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0; padding: 0; list-style: none; }
.summary li { padding: .2rem .75rem; border: 1px solid var(--line); border-radius: 1rem; background: var(--panel); }
.note { margin: 1.25rem 0 0; padding: .6rem .9rem; border-left: 3px solid var(--amber); background: var(--panel); }
code, pre, .version { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .87em; }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
th { padding: .3rem .75rem .3rem 0; color: var(--dim); font-size: .85rem; font-weight: 500; text-align: left; }
td { padding: .4rem .75rem .4rem 0; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td:first-child { min-width: 9rem; }
.layers { min-width: 44rem; }
.packages { min-width: 38rem; table-layout: fixed; }
.packages th { width: 17%; }
.packages th:first-child { width: auto; }
.quiet td { color: var(--dim); }
.size { white-space: nowrap; }
.wide { width: 24%; min-width: 8rem; }
.ids { max-width: 12rem; font-size: .87em; }
.ids a { white-space: nowrap; }
.mark { display: inline-block; width: .6rem; height: .6rem; margin-right: .5rem; border-radius: 50%; background: var(--grey); }
.added, .upgraded { background: var(--green); }
.removed, .downgraded { background: var(--red); }
.mark.changed, .mark.rebuilt { background: var(--amber); }
.renamed, .renumbered, .moved { background: var(--blue); }
.rolled-up, .unrolled { background: var(--violet); }
.mark.edited:not(.added, .removed, .changed) { box-shadow: 0 0 0 2px var(--ground), 0 0 0 4px var(--amber); }
.bar { position: relative; height: .85rem; margin-top: .3rem; border-radius: 3px; background: var(--panel); }
.bar i { position: absolute; inset: 0 auto 0 0; min-width: 2px; border-radius: 3px; background: var(--bar); }
.bar .gone { background: var(--gone); }
.bar b { position: absolute; top: -2px; bottom: -2px; width: 2px; margin-left: -1px; background: var(--text); }
.commits { margin: 0; padding: 0; list-style: none; }
.commits li { padding: .4rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
.commits li:target { background: var(--panel); }
.id { color: var(--dim); }
.tag { padding: 0 .45rem; border: 1px solid var(--line); border-radius: .6rem; color: var(--dim); font-size: .8rem; white-space: nowrap; }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: 6px; }
summary { padding: .5rem .8rem; background: var(--panel); cursor: pointer; border-radius: 6px; }
details > div, details > ul { padding: 0 .8rem; }
.file p { margin: .7rem 0 .3rem; overflow-wrap: anywhere; }
.file:last-child { padding-bottom: .8rem; }
pre { margin: 0 0 .6rem; padding: .4rem 0; overflow-x: auto; border: 1px solid var(--line); border-radius: 4px; line-height: 1.45; tab-size: 4; }
pre span { display: block; width: max-content; min-width: 100%; padding: 0 .7rem; }
pre .plus { background: var(--plus); }
pre .minus { background: var(--minus); }
pre .hunk { color: var(--dim); }
summary .plus { color: var(--green); }
summary .minus { color: var(--red); }
.digest { overflow-wrap: anywhere; }
@media print { details:not([open]) > *:not(summary) { display: block; } }
`
