/** What a block of a resource takes, by the name of the argument or the inner block. */
export type BlockSchema = Readonly<Record<string, ArgumentSchema>>;

export interface ArgumentSchema {
  readonly optional: boolean;
  /** Of an argument that is a block itself. */
  readonly block?: BlockSchema;
}
