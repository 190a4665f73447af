import LossdTensor

/// How the gradient of an operand that is repeated is summed: each of its elements over its
/// repetitions in row-major order, in pieces that depend on the number of repetitions alone, so
/// that the bits depend on neither chunks nor batches.
///
/// A unit of work is a block of the operand's elements and a piece of their repetitions. Of several
/// pieces each leaves its sums in the workspace, piece after piece, and a second pass adds them up.
@usableFromInline struct RepeatSums {
  @usableFromInline let elements: Int
  @usableFromInline let repeats: Int
  /// Whether the innermost dimension is the operand's own. Then elements lie beside one another,
  /// and a repetition of many of them is taken at once; else an element's repetitions are.
  @usableFromInline let isOwnInner: Bool
  @usableFromInline let blockSize: Int
  @usableFromInline let pieceSize: Int
  @usableFromInline let pieces: Int

  /// Repetitions that are added up by themselves, then to the sum; of `isOwnInner` those of a
  /// piece.
  @usableFromInline static let group = 256
  /// At most so many pieces, which bounds the workspace.
  private static let piecesMax = 256
  /// Results of a unit where the repetitions lie inside.
  private static let results = 1 << 14

  /// Of an operand with elements that has fewer than `shape`.
  init(_ shape: BroadcastShape, _ operand: TensorView) {
    elements = operand.count
    repeats = shape.count / operand.count
    let innermost = (0..<shape.rank).first { shape.sizeFromLast($0) != 1 } ?? 0
    isOwnInner = operand.sizeFromLast(innermost) != 1
    let least = isOwnInner ? RepeatSums.group : RepeatSums.results
    let groups = parts(parts(repeats, of: RepeatSums.piecesMax), of: RepeatSums.group)
    pieceSize = max(least, groups * RepeatSums.group)
    pieces = parts(repeats, of: pieceSize)
    blockSize = isOwnInner ? Elementwise.tile : max(RepeatSums.results / repeats, 1)
  }

  var units: Int { parts(elements, of: blockSize) * pieces }
  /// Of the pass that adds the pieces up; 0: one piece is the whole.
  var mergeUnits: Int { pieces > 1 ? parts(elements, of: Elementwise.tile) : 0 }
  /// In the workspace.
  var partialCount: Int { pieces > 1 ? pieces * elements : 0 }
  /// Results of one unit.
  var unitCount: Int { min(blockSize, elements) * min(pieceSize, repeats) }
}

/// How many parts of at most `size` so many elements make.
func parts(_ count: Int, of size: Int) -> Int { count / size + (count % size == 0 ? 0 : 1) }
