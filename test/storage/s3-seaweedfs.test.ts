import { s3Suites } from './s3.ts';

s3Suites('seaweedfs', { isBrief: true });
