/** The arguments and inner blocks of a resource's block, by name. */
export type BlockSchema = Readonly<Record<string, ArgumentSchema>>;

export interface ArgumentSchema {
  readonly optional: boolean;
  /** Present if the argument is a block itself. */
  readonly block?: BlockSchema;
}
