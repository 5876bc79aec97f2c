import fc from 'fast-check';

/**
 * Random tests draw the same inputs on every run, so that the gate says the same of the same commit. New ones come by
 * `FAST_CHECK_SEED=$RANDOM npm test`.
 */
fc.configureGlobal({ seed: Number(process.env.FAST_CHECK_SEED ?? 1) });
