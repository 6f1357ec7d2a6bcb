// Draws one dashboard on Grafana's grid, section by section. `window.drawing` has its JSON and query results.

import { createTheme, ThemeContext } from '@grafana/data';
import { GlobalStyles } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { Panel } from './panel.jsx';

const WIDTH = 1400;
const COLUMN = WIDTH / 24;
const ROW = 38;
const GAP = 8;

// Groups the panels by the row title above them.
function sectionsOf(panels) {
  const sections = [];
  for (const panel of panels) {
    if (panel.type === 'row') sections.push({ row: panel, panels: [] });
    else sections.at(-1).panels.push(panel);
  }
  return sections;
}

function Section({ row, panels, answers, range }) {
  const top = row.gridPos.y + 1;
  const height = Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h)) - top;
  return (
    <section data-title={row.title} style={{ width: WIDTH, padding: `${GAP}px 0` }}>
      <h4 style={{ margin: `${GAP}px ${GAP}px 12px` }}>{row.title}</h4>
      <div style={{ position: 'relative', height: height * ROW }}>
        {panels.map((panel) => {
          const { x, y, w, h } = panel.gridPos;
          return (
            <div key={panel.id} style={{ position: 'absolute', left: x * COLUMN + GAP / 2, top: (y - top) * ROW }}>
              <Panel panel={panel} answers={answers[panel.id]} range={range} width={w * COLUMN - GAP} height={h * ROW - GAP} />
            </div>
          );
        })}
      </div>
    </section>
  );
}

const { dashboard, answers, range } = window.drawing;
const theme = createTheme({ colors: { mode: 'dark' } });
document.body.style.background = theme.colors.background.canvas;
createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    {sectionsOf(dashboard.panels).map((section) => (
      <Section key={section.row.id} {...section} answers={answers} range={range} />
    ))}
  </ThemeContext.Provider>,
);
