"""A page for people: what is served, what a request looks like, and a form to try one. No network assets. Pure."""

from __future__ import annotations

import json
from html import escape

import msgspec

from engine.serve.openapi import example_row
from engine.serve.package import Served
from engine.serve.standing import Standing

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}
p.state{margin:.2rem 0 1.5rem;opacity:.75}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line)}
th{font-weight:600}code,pre,textarea{font:13px/1.5 ui-monospace,monospace}
textarea{width:100%;min-height:11rem;box-sizing:border-box;padding:.6rem;border:1px solid var(--line);background:var(--soft);color:inherit}
pre{background:var(--soft);padding:.6rem;overflow:auto;min-height:1.5rem;white-space:pre-wrap}
button{font:inherit;padding:.35rem 1rem;margin:.5rem 0;cursor:pointer}
input{font:inherit;padding:.3rem;border:1px solid var(--line);background:var(--soft);color:inherit}
"""
_SCRIPT = """
const ask=document.getElementById('ask');
ask.addEventListener('click',async()=>{
  const out=document.getElementById('answer'),token=document.getElementById('token').value;
  const headers={'content-type':'application/json'};
  if(token)headers.authorization='Bearer '+token;
  try{const began=performance.now();
    const reply=await fetch('/predict',{method:'POST',headers,body:document.getElementById('body').value});
    const text=await reply.text(),took=(performance.now()-began).toFixed(1);
    out.textContent=reply.status+' in '+took+' ms\\n'+JSON.stringify(JSON.parse(text),null,2)
  }catch(error){out.textContent=String(error)}
});
"""


def render_page(served: Served, standing: Standing) -> str:
    """The page as HTML."""
    example = json.dumps(example_row(served), indent=2)
    fields = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(type_)}</td></tr>"
        for name, type_ in served.program.spine.request.items()
    )
    models = "".join(
        f"<tr><td>{escape(item.model)}</td><td>{escape(item.arm)}</td><td><code>{item.package[:12]}</code></td>"
        f"<td><code>{item.program[:12]}</code></td></tr>"
        for item in standing.models
    )
    state = escape(msgspec.json.format(bytes(standing.state)).decode())
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(served.label)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>{escape(served.label)}</h1>
<p class="state">{escape(standing.status)}, {standing.log["rows"]:,} rows logged, {standing.log["dropped"]:,} dropped.
Machines read <a href="/openapi.json">openapi.json</a>, <a href="/readyz">readyz</a>, <a href="/metrics">metrics</a>.</p>
<h2>Served</h2><table><tr><th>model</th><th>arm</th><th>package</th><th>program</th></tr>{models}</table>
<h2>A row</h2><table><tr><th>field</th><th>type</th></tr>{fields}
<tr><td><code>event_time</code></td><td>timestamp, now when absent</td></tr>
<tr><td><code>prediction_id</code></td><td>str, made when absent</td></tr></table>
<h2>Try it</h2><textarea id="body" spellcheck="false">{escape(example)}</textarea>
<div><button id="ask">POST /predict</button> <input id="token" type="password" placeholder="token, if one is needed"></div>
<pre id="answer"></pre>
<h2>How far the online state is</h2><pre>{state}</pre>
<script>{_SCRIPT}</script></body></html>"""
