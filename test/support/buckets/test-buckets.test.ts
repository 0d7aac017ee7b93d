import { faultyBucket } from './faulty-bucket.ts';
import { memoryBucket } from './memory-bucket.ts';
import { bucketConformance } from '../../storage/conformance.ts';

bucketConformance('a bucket in memory', () =>
  Promise.resolve({ bucket: memoryBucket(), close: () => Promise.resolve() }),
);

bucketConformance('a faulty bucket without a fault', () =>
  Promise.resolve({
    bucket: faultyBucket(memoryBucket(), () => undefined),
    close: () => Promise.resolve(),
  }),
);
