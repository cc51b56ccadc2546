"""The frame and the looks of report.html. No text of a run stands here, and nothing that is not HTML or CSS."""

from string import Template

# Okabe and Ito's colours: told apart with every kind of colour vision, and by shape as well.
PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$run_id: $accuracy test accuracy</title>
<style>
:root { color-scheme: light; --ink: #1f2328; --soft: #59616b; --line: #dfe2e6; --paper: #fff; --card: #f6f7f9;
  --training: #d55e00; --validation: #0072b2; --right: #0072b2; --wrong: #d55e00 }
@media screen and (prefers-color-scheme: dark) { :root { color-scheme: dark; --ink: #e6e8eb; --soft: #a3abb5;
  --line: #363b42; --paper: #15181c; --card: #1e2227; --training: #e69f00; --validation: #56b4e9; --right: #56b4e9;
  --wrong: #e69f00 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 3rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; print-color-adjust: exact }
h1, h2, p { margin: 0 } h1 { font-size: 1.1rem; font-weight: 600; color: var(--soft) }
h2 { font-size: 1.1rem; line-height: 1.25; margin-bottom: .6rem }
header { display: grid; gap: .25rem 2.5rem; align-items: center; margin-bottom: 1.5rem }
header h1 { grid-column: 1 / -1 }
.headline { font-size: clamp(3.2rem, 12vw, 5rem); font-weight: 700; line-height: 1.05; letter-spacing: -.02em;
  color: var(--validation); white-space: nowrap; font-variant-numeric: tabular-nums }
header strong { font-weight: 600 }
main { display: grid; gap: 1rem }
section { min-width: 0; padding: 1rem; background: var(--card); border-radius: .6rem }
section > p + *, section > * + p { margin-top: .6rem } .first > * + * { margin-top: 1rem }
.soft { color: var(--soft); font-size: .875rem }
@media (min-width: 44rem) {
  header { grid-template-columns: auto 1fr }
  main { grid-template-columns: repeat(6, 1fr) }
  section { grid-column: span 3 } .third { grid-column: span 2 } .all, .first { grid-column: 1 / -1 }
  .first { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem }
  .first > * + * { margin: 0 }
}
@media (min-width: 64rem) { .plot, .first { grid-column: span 2 } .first { display: block }
  .first > * + * { margin-top: 1rem } }
svg { display: block; width: 100%; max-width: 34rem; height: auto; font: 12px system-ui, sans-serif; fill: var(--soft);
  font-variant-numeric: tabular-nums }
path { fill: none; stroke-linecap: round; stroke-linejoin: round }
.grid { stroke: var(--line) } .mark { stroke: var(--soft); stroke-dasharray: 3 4 }
.training { stroke: var(--training); stroke-width: 3 } .few { stroke-width: 5 }
.validation { stroke: var(--validation); stroke-width: 2 }
.best { stroke: var(--validation); stroke-width: 9 } .whisker { stroke: var(--soft); stroke-width: 1.5 }
.end { text-anchor: end } .middle { text-anchor: middle } .strong { fill: var(--ink); font-weight: 600 }
.legend { display: flex; gap: .25rem 1.25rem; flex-wrap: wrap; color: var(--soft); font-size: .875rem }
.legend span::before { content: ""; display: inline-block; vertical-align: middle; margin-right: .4rem;
  background: var(--training); width: .5rem; height: .5rem; border-radius: 50% }
.legend .of-validation::before { background: var(--validation); width: 1.25rem; height: .15rem; border-radius: 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem }
th, td { padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top }
tr + tr { border-top: 1px solid var(--line) } th { font-weight: 400; color: var(--soft); overflow-wrap: normal }
.facts { width: 100% } .facts th { width: 40% } .list { min-width: 32rem }
.wide { overflow-x: auto } .figures td, .figures th[scope=col] { text-align: right; overflow-wrap: normal }
.confusion { border-collapse: separate; border-spacing: .25rem; width: 100%; max-width: 30rem }
.confusion td, .confusion th[scope=col] { padding: .6rem .5rem; text-align: center; overflow-wrap: normal }
.right, .wrong { --colour: var(--right); border-radius: .4rem; color: var(--ink);
  background: color-mix(in srgb, var(--colour) calc(var(--share) * 42%), var(--paper)) }
.wrong { --colour: var(--wrong) }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: 1rem .75rem }
figure { margin: 0; font-size: .8125rem; line-height: 1.35 } small { color: var(--soft) }
figure img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--line);
  border-radius: .4rem; margin-bottom: .3rem }
summary { cursor: pointer; font-size: 1.1rem; font-weight: 600 }
@media print { body { padding: 0; max-width: none; font-size: .75rem } section { padding: .3rem 0; background: none }
  main { grid-template-columns: repeat(6, 1fr) } section { grid-column: span 3 } .third { grid-column: span 2 }
  .all, .first { grid-column: 1 / -1 } .first { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem }
  .mistakes { grid-template-columns: repeat(6, 1fr) } tr, figure, section:not(.all) { break-inside: avoid }
  h2 { break-after: avoid } section:has(details) { display: none } }
</style>
</head>
<body>
<header>
<h1>Cats and dogs: run $run_id</h1>
<p class="headline">$accuracy</p>
<p>of $images test images, none of them seen in training, were called by their right name: $correct.
The 95 % interval (Wilson) is <strong>$interval</strong>: the accuracies on other images of this kind that so many
images leave plausible. The model is that of epoch $best_epoch of $epochs, the best on the validation images.</p>
</header>
<main>
<section><h2>Accuracy</h2>$accuracy_curve
<p class="legend"><span>training</span><span class="of-validation">validation</span></p></section>
<section><h2>Loss</h2>$loss_curve
<p class="legend"><span>training</span><span class="of-validation">validation</span></p></section>
<section class="first"><div><h2>Truth and verdict, test images</h2>$confusion</div>
<div><h2>The model on each split</h2>$splits</div></section>
<section class="plot"><h2>ROC</h2>$roc
<p class="soft">How many dogs are found, and how many cats are taken for one, at every threshold.</p></section>
<section class="plot"><h2>Calibration</h2>$calibration
<p class="soft">Of the images that get a probability, how many are dogs: on the diagonal, as many as it says. Lines are
95 % intervals; the average distance is $calibration_error.</p></section>
<section class="all"><h2>Worst mistakes on test images</h2>$mistakes</section>
<section class="all"><h2>Images left out</h2>$left_out</section>
<section><h2>Settings</h2>$settings</section>
<section><h2>Archive</h2>$archive</section>
<section class="third"><h2>Versions</h2>$versions</section>
<section class="third"><h2>Device</h2>$device</section>
<section class="third"><h2>Time</h2>$stages</section>
<section class="all"><details><summary>Every epoch</summary>$by_epoch</details></section>
</main>
</body>
</html>
""")
