import { renderToString } from 'preact-render-to-string'
import type { PageModel } from '../model.js'
import { ActionContext } from './actions.js'
import { StillPage } from './app.js'
import { titleOf } from './shell.js'

const escapeText = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')

/** A page as HTML, with the data that the browser goes on from. */
export function renderPage(model: PageModel, version: string): string {
  const actions = { mayChange: model.mayChange, ask: () => {}, done: () => {} }
  const content = renderToString(
    <ActionContext.Provider value={actions}>
      <div>
        <StillPage model={model} />
      </div>
    </ActionContext.Provider>,
  )
  // Text of the page cannot end the element that it stands in.
  const data = JSON.stringify(model).replaceAll('<', '\\u003c')
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeText(titleOf(model))}</title>
<link rel="icon" href="/assets/icon.svg?${model.health.state}" type="image/svg+xml">
<link rel="stylesheet" href="/assets/style.css?v=${version}">
<script type="module" src="/assets/client.js?v=${version}"></script>
</head>
<body>
<div id="app">${content}</div>
<script type="application/json" id="model">${data}</script>
</body>
</html>
`
}
