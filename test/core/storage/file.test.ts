import { temporaryFileBucket } from '../../support/file-bucket.ts';
import { bucketConformance } from '../../storage/conformance.ts';

bucketConformance('a bucket in a directory', temporaryFileBucket);
