import LossdTensor

/// Elements of a block, column by column: in place where a column lies in one piece, else copied into
/// scratch of `LongLayout.blockElements`.
struct LongTile<T: LongElement> {
  private let base: UnsafeMutablePointer<T>
  private let length: Int
  private let isInPlace: Bool

  /// To be read. `type`: what the elements are rounded to first.
  init(
    reading tensor: TensorView, _ block: LongBlock, type: DataType,
    scratch: UnsafeMutablePointer<T>
  ) {
    self.init(writing: tensor, block, isCast: type != tensor.dataType, scratch: scratch)
    if isInPlace { return }
    // Along the tensor's memory, across the tile.
    if tensor.dataType == T.dataType && type == T.dataType {
      let elements = tensor.elements(as: T.self)
      for index in 0..<length {
        let first = elements + block.place(0, index)
        for column in 0..<block.columns { base[column * length + index] = first[column] }
      }
      return
    }
    for index in 0..<length {
      for column in 0..<block.columns {
        let x = tensor[block.place(column, index)]
        base[column * length + index] = T(rounding: rounded(x, type))
      }
    }
  }

  /// To be written, column by column, and then committed.
  init(
    writing tensor: TensorView, _ block: LongBlock, isCast: Bool = false,
    scratch: UnsafeMutablePointer<T>
  ) {
    length = block.length
    isInPlace = block.inner == 1 && tensor.dataType == T.dataType && !isCast
    base = isInPlace ? tensor.elements(as: T.self) + block.start : scratch
  }

  func column(_ index: Int) -> UnsafeMutablePointer<T> { base + index * length }

  /// Brings what was written to where it belongs.
  func commit(_ tensor: TensorView, _ block: LongBlock) {
    if isInPlace { return }
    if tensor.dataType == T.dataType {
      let elements = tensor.elements(as: T.self)
      for index in 0..<length {
        let first = elements + block.place(0, index)
        for column in 0..<block.columns { first[column] = base[column * length + index] }
      }
      return
    }
    for index in 0..<length {
      for column in 0..<block.columns {
        tensor[block.place(column, index)] = base[column * length + index].widened
      }
    }
  }
}
