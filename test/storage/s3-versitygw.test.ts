import { s3Suites } from './s3.ts';

s3Suites('versitygw', {
  isBrief: false,
  // It checks an etag before it stores the object, and locks nothing between the two: a replacement of
  // 16 brought an object back that a concurrent request had deleted.
  except: /never brings a deleted object back/,
});
