import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// float32 views of tensors for the vector kernels: the tensor itself where it is float32, else a widened
/// copy in scratch memory.
struct Tiles {
  let kernels: KernelTable

  /// Types whose elements float32 holds exactly.
  static func canWiden(_ type: DataType) -> Bool {
    type == .float32 || type == .float16 || type == .bfloat16
  }

  /// Elements `begin ..< begin + count` as float32: in place, or widened into `tile`.
  func read(
    _ tensor: TensorView, _ begin: Int, _ count: Int, tile: UnsafeMutablePointer<Float>
  ) -> UnsafePointer<Float> {
    switch tensor.dataType {
    case .float16:
      kernels.widenHalf(tensor.elements(as: UInt16.self) + begin, tile, count)
    case .bfloat16:
      kernels.widenBFloat(tensor.elements(as: UInt16.self) + begin, tile, count)
    default: return UnsafePointer(tensor.elements(as: Float.self) + begin)
    }
    return UnsafePointer(tile)
  }

  /// As `read`, of a tensor that broadcasts to `shape`.
  func readBroadcast(
    _ tensor: TensorView, _ begin: Int, _ count: Int, _ shape: UnsafeBufferPointer<Int64>,
    tile: UnsafeMutablePointer<Float>
  ) -> UnsafePointer<Float> {
    if tensor.hasShape(shape) { return read(tensor, begin, count, tile: tile) }
    if tensor.count == 1 {
      tile.initialize(repeating: Float(tensor[0]), count: count)
    } else if isTrailing(tensor, shape) {
      var place = begin % tensor.count
      for index in 0..<count {
        tile[index] = Float(tensor[place])
        place += 1
        if place == tensor.count { place = 0 }
      }
    } else {
      for index in 0..<count {
        tile[index] = Float(tensor[tensor.broadcastIndex(begin + index, shape)])
      }
    }
    return UnsafePointer(tile)
  }

  /// Whether the tensor repeats with every element of the dimensions that it lacks.
  private func isTrailing(_ tensor: TensorView, _ shape: UnsafeBufferPointer<Int64>) -> Bool {
    let skipped = shape.count - tensor.rank
    return skipped >= 0 && (0..<tensor.rank).allSatisfy { tensor.shape[$0] == shape[skipped + $0] }
  }

  /// Where a kernel writes elements from `begin` on: in place, or into `tile`.
  func target(
    _ tensor: TensorView, _ begin: Int, tile: UnsafeMutablePointer<Float>
  ) -> UnsafeMutablePointer<Float> {
    tensor.dataType == .float32 ? tensor.elements(as: Float.self) + begin : tile
  }

  /// Rounds what was written into `tile` to where it belongs; nothing to do for float32.
  func commit(
    _ tensor: TensorView, _ begin: Int, _ count: Int, tile: UnsafeMutablePointer<Float>
  ) {
    switch tensor.dataType {
    case .float16: kernels.narrowHalf(tile, tensor.elements(as: UInt16.self) + begin, count)
    case .bfloat16: kernels.narrowBFloat(tile, tensor.elements(as: UInt16.self) + begin, count)
    default: break
    }
  }
}

/// Rows that are computed together when they have to be widened: some 16 Ki elements, or one row.
enum TileRows {
  static let elements = 16 << 10
  static func count(_ columns: Int) -> Int { max(elements / max(columns, 1), 1) }
  /// Elements of such a tile.
  static func capacity(_ columns: Int) -> Int { count(columns) * columns }
}
