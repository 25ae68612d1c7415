// BullMQ's producer: sends as many jobs as it is told to.
const { Queue } = require('bullmq');

async function main(count) {
  const connection = { host: '127.0.0.1', port: Number(process.env.BENCH_REDIS_PORT) };
  const queue = new Queue('bench', { connection });
  for (let first = 0; first < count; first += 500) {
    const jobs = Array.from({ length: Math.min(500, count - first) }, () => ({ name: 'noop', data: {} }));
    await queue.addBulk(jobs);
  }
  await queue.close();
}

main(Number(process.argv[2]));
