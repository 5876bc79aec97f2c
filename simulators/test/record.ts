import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Car } from '../src/car.ts';

/** Records a simulated car on its bus, as candump -L does. Resolves to the number of frames. */
export async function record(path: string, car: Car, fromMs: number, toMs: number): Promise<number> {
  const file = createWriteStream(path);
  let frames = 0;
  car.advance(fromMs, () => undefined);
  for (let time = fromMs; time < toMs; time += 10_000) {
    const lines = candumpLines(car, Math.min(time + 10_000, toMs));
    frames += lines.length;
    if (!file.write(lines.join(''))) await once(file, 'drain');
  }
  file.end();
  await once(file, 'finish');
  return frames;
}

/** Lets a car drive on to a time; what was on its bus, a line a frame. */
export function candumpLines(car: Car, toMs: number): string[] {
  const lines: string[] = [];
  car.advance(toMs, (frame) => {
    const id = frame.id
      .toString(16)
      .toUpperCase()
      .padStart(frame.extended ? 8 : 3, '0');
    lines.push(
      `(${(frame.time / 1000).toFixed(6)}) can0 ${id}#${Buffer.from(frame.data).toString('hex').toUpperCase()}\n`,
    );
  });
  return lines;
}
