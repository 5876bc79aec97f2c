import { startAnomalies } from './anomalies.js';
import { startCar } from './car.js';
import { startClusters } from './clusters.js';
import { startFleet } from './fleet.js';
import { startHeader } from './header.js';
import { startLogCharts } from './log-charts.js';
import { startLoop } from './loop.js';
import { startModels } from './models.js';
import { connect, onChange, redraw, store } from './store.js';
import { startTraining } from './training.js';

store.selected = new URLSearchParams(location.hash.slice(1)).get('car');

startHeader();
startLoop();
startFleet();
startAnomalies();
startCar();
startTraining();
startModels();
startClusters();
startLogCharts();
onChange(() => {
  document.body.dataset.phase = store.summary === null ? 'loading' : 'shown';
  document.body.dataset.connection = store.connection;
});

connect();
redraw();
