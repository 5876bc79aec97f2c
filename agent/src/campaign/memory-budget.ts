/**
 * Bytes that all rings and windows of a car's campaigns share. Who is refused keeps less history and counts it:
 * a campaign that asks for too much gets less, and the agent stays as small as it promised to be.
 */
export class MemoryBudget {
  private left: number;

  constructor(bytes: number) {
    this.left = bytes;
  }

  get free(): number {
    return this.left;
  }

  /** Takes the bytes and says true, or takes none and says false. */
  take(bytes: number): boolean {
    if (bytes > this.left) return false;
    this.left -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.left += bytes;
  }
}
