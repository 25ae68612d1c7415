// BullMQ's worker: as many jobs at once as its documentation proposes for jobs that wait (100 to 300).
const { Worker } = require('bullmq');

const connection = { host: '127.0.0.1', port: Number(process.env.BENCH_REDIS_PORT), maxRetriesPerRequest: null };
new Worker('bench', async () => null, { connection, concurrency: 100 });
