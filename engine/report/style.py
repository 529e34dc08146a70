"""The look: one palette for light, dark and paper, and the rules for pictures and page. Text only; no font, no image.

Colours follow Okabe and Ito (2008), whose palette people with any kind of colour vision tell apart;
 each colour also comes
with a word, a dash or a marker of its own. A standalone picture carries `PALETTE` and `PICTURE`; a page adds `PAGE`.
None of these may contain `<` or `&`, so that a page stays well-formed XML.
"""

from __future__ import annotations

PALETTE = """
:root{color-scheme:light dark;
--paper:#fdfdfb;--panel:#f5f4f0;--ink:#1c1d20;--soft:#5a5d63;--line:#d9d7d0;--faint:#ebe9e3;
--challenger:#0b63b0;--baseline:#b8560a;--champion:#00795a;--accent:#0b63b0;
--good:#0a7350;--good-wash:#e6f3ee;--bad:#b3261e;--bad-wash:#fbeae8;--unsure:#8a5a00;--unsure-wash:#fbf2df;
--ran:#0b63b0;--ran-wash:#e8f0f9;--cached:#00795a;--cached-wash:#e7f3ef;--todo:#8a5a00;--todo-wash:#fbf2df;
--off:#62656b;--off-wash:#f0efec}
@media (prefers-color-scheme:dark){:root{
--paper:#15171a;--panel:#1d2024;--ink:#e9e8e4;--soft:#a3a6ad;--line:#363a41;--faint:#262a2f;
--challenger:#62b0f2;--baseline:#f0a04b;--champion:#3fcaa0;--accent:#7cbcf5;
--good:#4fd0a0;--good-wash:#132a23;--bad:#ff8a80;--bad-wash:#351b1a;--unsure:#f0c060;--unsure-wash:#31270f;
--ran:#62b0f2;--ran-wash:#14273a;--cached:#3fcaa0;--cached-wash:#132a24;--todo:#f0c060;--todo-wash:#31270f;
--off:#9a9da4;--off-wash:#24272c}}
"""

PICTURE = """
svg.picture{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--ink);
font-variant-numeric:tabular-nums}
.picture .edge{fill:none;stroke:var(--off);stroke-width:1.2;opacity:.75}
.picture .tip{fill:var(--off)}
.picture .box{stroke-width:1;stroke:var(--tone);fill:var(--wash)}
.picture .stripe{fill:var(--tone)}
.picture .name{font-weight:600;font-size:12.5px}
.picture .detail{font-size:11px;fill:var(--soft)}
.picture .state{font-size:11px;fill:var(--tone);font-weight:600}
.picture .ran{--tone:var(--ran);--wash:var(--ran-wash)}
.picture .cached{--tone:var(--cached);--wash:var(--cached-wash)}
.picture .failed{--tone:var(--bad);--wash:var(--bad-wash)}
.picture .failed .box{stroke-width:2}
.picture .todo{--tone:var(--todo);--wash:var(--todo-wash)}
.picture .maybe{--tone:var(--todo);--wash:var(--paper)}
.picture .skipped{--tone:var(--off);--wash:var(--off-wash)}
.picture .maybe .box,.picture .skipped .box{stroke-dasharray:4 3}
.picture .heading{font-size:13px;font-weight:600}
.picture .label{font-size:11.5px}
.picture .tick{font-size:11px;fill:var(--soft)}
.picture .axis{stroke:var(--off);stroke-width:1;fill:none}
.picture .rule{stroke:var(--faint);stroke-width:1}
.picture .reference{stroke:var(--soft);stroke-width:1.1;stroke-dasharray:2 3;fill:none}
.picture .curve{fill:none;stroke:var(--tone);stroke-width:1.9;stroke-linejoin:round}
.picture .dot{fill:var(--tone);stroke:var(--paper);stroke-width:.8}
.picture .whisker{stroke:var(--tone);stroke-width:1.8;fill:none}
.picture .bar{fill:var(--tone)}
.picture .area{fill:var(--tone);fill-opacity:.14;stroke:none}
.picture .challenger{--tone:var(--challenger)}
.picture .baseline{--tone:var(--baseline)}
.picture .champion{--tone:var(--champion)}
.picture .other{--tone:var(--off)}
.picture .baseline .curve,.picture .baseline.curve{stroke-dasharray:7 4}
.picture .champion .curve,.picture .champion.curve{stroke-dasharray:2 3}
"""

PAGE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
header,main,footer,nav{max-width:1200px;margin:0 auto;padding:0 28px}
h1,h2,.ruling{font-family:Charter,"Bitstream Charter","Sitka Text",Cambria,Georgia,"Noto Serif",serif;
font-weight:600;line-height:1.2;text-wrap:balance}
h1{font-size:30px;margin:0}
h2{font-size:22px;margin:0 0 4px}
h3{font-size:15px;margin:26px 0 6px}
p{margin:6px 0;max-width:760px;text-wrap:pretty}
a{color:var(--accent)}
code,pre,.mono{font-family:ui-monospace,"SF Mono","Cascadia Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:.87em}
code{overflow-wrap:anywhere}
pre code{font-size:1em}
.soft{color:var(--soft)}
header{padding-top:36px}
.kicker{margin:0 0 4px;color:var(--soft);font-size:13px;letter-spacing:.02em}
nav{margin-top:12px}
nav ul{display:flex;flex-wrap:wrap;gap:2px 18px;margin:0;padding:8px 0;list-style:none;font-size:13.5px;
border-top:1px solid var(--line);border-bottom:1px solid var(--line)}
nav a{text-decoration:none}
nav a:hover{text-decoration:underline}
main>section{padding:28px 0 10px;border-bottom:1px solid var(--line)}
main>section:last-child{border-bottom:0}
.verdict{--tone:var(--off);--wash:var(--off-wash)}
.verdict-good{--tone:var(--good);--wash:var(--good-wash)}
.verdict-bad{--tone:var(--bad);--wash:var(--bad-wash)}
.verdict-unsure{--tone:var(--unsure);--wash:var(--unsure-wash)}
.banner{background:var(--wash);border-left:6px solid var(--tone);border-radius:4px;padding:18px 22px 16px}
.ruling{font-size:34px;margin:0;color:var(--tone)}
.banner p{font-size:16.5px;margin:4px 0 0;max-width:920px}
.banner .exit{font-size:13.5px;color:var(--soft);margin-top:8px}
dl.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:16px 26px;margin:22px 0 18px}
dl.facts dt{font-size:12.5px;color:var(--soft)}
dl.facts dd{margin:0;font-size:19px;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere;
line-height:1.3}
dl.facts dd small{display:block;font-size:12.5px;font-weight:400;color:var(--soft)}
dl.pairs{margin:10px 0}
dl.pairs div{display:grid;grid-template-columns:120px 1fr;gap:3px 16px;padding:2px 0}
dl.pairs dt{color:var(--soft)}
dl.pairs dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:10px 0 14px;
background:linear-gradient(to right,var(--paper) 12px,transparent) 0 0/28px 100%,
linear-gradient(to left,var(--paper) 12px,transparent) 100% 0/28px 100%,
linear-gradient(to right,var(--line),transparent) 0 0/12px 100%,
linear-gradient(to left,var(--line),transparent) 100% 0/12px 100%;
background-repeat:no-repeat;background-attachment:local,local,scroll,scroll}
.scroll:focus-visible{outline:2px solid var(--accent)}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums lining-nums}
table.grid{width:auto;min-width:min(100%,660px)}
.grid th,.grid td{padding-right:26px}
caption{max-width:min(760px,calc(100vw - 36px));text-align:left;color:var(--soft);font-size:13px;padding:0 0 6px}
th,td{padding:5px 14px 5px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--faint)}
th:last-child,td:last-child{padding-right:0}
thead th{font-weight:600;color:var(--soft);border-bottom:1px solid var(--line);vertical-align:bottom;
white-space:nowrap}
tbody th{font-weight:500;white-space:nowrap}
tbody th small{display:block;font-weight:400;color:var(--soft);font-size:12px}
tbody th.wrap{white-space:normal;overflow-wrap:anywhere}
td.number,th.number{text-align:right;white-space:nowrap}
td.number+td:not(.number),th.number+th:not(.number){padding-left:14px}
td .range{color:var(--soft);margin-left:.5em;font-size:12.5px}
tr.group td,tr.group th{border-top:1px solid var(--line)}
tr.dim td,tr.dim th{color:var(--soft)}
.badge{display:inline-block;white-space:nowrap;font-size:12.5px;font-weight:600;color:var(--tone,var(--off))}
.badge::before{content:"";display:inline-block;width:8px;height:8px;margin-right:6px;border-radius:50%;
background:var(--tone,var(--off))}
.tone-good{--tone:var(--good)}.tone-bad{--tone:var(--bad)}.tone-unsure{--tone:var(--unsure)}
.tone-ran{--tone:var(--ran)}.tone-cached{--tone:var(--cached)}
.tone-bad::before{border-radius:1px}
.tone-unsure::before{border-radius:1px;transform:rotate(45deg)}
pre{background:var(--panel);border:1px solid var(--line);border-radius:4px;padding:12px 14px;overflow-x:auto;
margin:10px 0;line-height:1.5;white-space:pre-wrap;overflow-wrap:anywhere}
pre.error{border-left:4px solid var(--bad)}
figure{margin:0}
figure svg{display:block;width:100%;height:auto;max-width:calc(var(--natural)*1.5)}
figcaption{font-size:13px;color:var(--soft);margin-top:4px;max-width:760px}
.graph svg{margin:0 auto;max-width:var(--natural);min-width:calc(var(--natural)*.76)}
.charts{display:grid;gap:22px 34px;margin:14px 0;grid-template-columns:repeat(auto-fit,minmax(290px,1fr))}
.charts.two{grid-template-columns:repeat(auto-fit,minmax(400px,1fr));align-items:start}
.charts svg{max-width:440px}
.none{color:var(--soft);font-style:italic}
details{margin:10px 0}
summary{cursor:pointer;color:var(--accent);font-size:14px}
footer{padding-top:18px;padding-bottom:40px;color:var(--soft);font-size:12.5px}
@media (max-width:640px){
body{font-size:15px}
header,main,footer,nav{padding-left:16px;padding-right:16px}
header{padding-top:22px}
h1{font-size:25px}.ruling{font-size:28px}
.banner{padding:14px 16px}
.banner p{font-size:15.5px}
dl.facts{grid-template-columns:1fr 1fr}
dl.pairs div{grid-template-columns:100px 1fr;gap:0 10px}
.charts,.charts.two{grid-template-columns:1fr}
.graph svg{min-width:var(--natural)}
.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.stack,.stack tbody,.stack tr,.stack th,.stack td{display:block}
.stack caption{display:block}
.stack tr{padding:8px 0;border-bottom:1px solid var(--line)}
.stack th,.stack td{border:0;padding:1px 0;text-align:left!important;padding-left:0!important;
white-space:normal!important;overflow-wrap:anywhere}
.stack tbody th{font-weight:600}
.stack td{display:grid;grid-template-columns:104px 1fr;gap:0 10px}
.stack td.empty{display:none}
.stack td::before{content:attr(data-label);color:var(--soft)}
}
@media print{
.scroll{background:none}
table{font-size:9.5px}
td .range{font-size:8.5px}
.grid th,.grid td{padding-right:10px}
:root{color-scheme:light}
body{font-size:11px}
nav{display:none}
.scroll{overflow:visible}
.graph svg{min-width:0!important}
figure,tr,.banner,dl.facts{break-inside:avoid}
h2,h3{break-after:avoid}
details:not([open]){display:none}
a{color:inherit;text-decoration:none}
}
"""
