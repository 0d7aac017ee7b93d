import { isNicheError } from '../../errors.ts';

/** What a look brings; `otherwise` for whoever may not look, as uploaders may write and not read. */
export async function unlessDenied<T, Otherwise>(
  look: Promise<T>,
  otherwise: Otherwise,
): Promise<T | Otherwise> {
  try {
    return await look;
  } catch (error) {
    if (isNicheError(error, 'storage-denied')) return otherwise;
    throw error;
  }
}
