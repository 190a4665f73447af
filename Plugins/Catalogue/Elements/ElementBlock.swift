import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// How blocks of elements are handed to the kernels: read in place or into tiles, with the results wherever they go.
struct ElementBlock {
  let tiles: Tiles
  /// With the results that each element has of its own.
  let tensors: ElementTensors
  let state: ElementState
  /// What the operands broadcast to.
  let shape: UnsafeBufferPointer<Int64>
  /// What slopes are multiplied by, apart from an upstream gradient an element.
  let scale: Double
  let isStreamed: Bool
  private let scratch: UnsafeMutableRawPointer
  private let upstream: TensorView?

  init(
    _ tiles: Tiles, _ tensors: ElementTensors, _ state: ElementState,
    shape: UnsafeBufferPointer<Int64>, scale: Double, scratch: UnsafeMutableRawPointer
  ) {
    (self.tiles, self.tensors, self.state) = (tiles, tensors, state)
    (self.shape, self.scale, self.scratch) = (shape, scale, scratch)
    upstream = tensors.isReduced ? nil : tensors.upstream
    isStreamed = Streaming.isWorthwhile(
      state.count, tensors.input.dataType, results: tensors.resultCount)
    let count = min(state.count, Blocks.size)
    func fill(_ tensor: TensorView?, _ tile: ElementTile) {
      guard let tensor, isNumber(tensor) else { return }
      tiles.fill(tile.place(scratch), 0, count, tensor[0])
    }
    fill(tensors.input, .input)
    fill(tensors.target, .target)
    fill(tensors.parameter, .parameter)
    fill(tensors.weight, .weight)
    fill(upstream, .upstream)
  }

  /// Whether one number stands for all elements: its tile is filled once for all blocks.
  private func isNumber(_ tensor: TensorView) -> Bool {
    tensor.count == 1 && !tensor.hasShape(shape)
  }

  private func read(
    _ tensor: TensorView?, _ tile: ElementTile, _ begin: Int, _ count: Int
  ) -> UnsafeRawPointer? {
    guard let tensor else { return nil }
    let place = tile.place(scratch)
    return isNumber(tensor)
      ? UnsafeRawPointer(place) : tiles.readBroadcast(tensor, begin, count, shape, tile: place)
  }

  private func goal(
    _ tensor: TensorView?, _ tile: ElementTile, _ begin: Int
  ) -> UnsafeMutableRawPointer? {
    tensor.map { tiles.target($0, begin, tile: tile.place(scratch)) }
  }

  /// The operands of elements from `begin` on, at most a block, and nowhere to write.
  func operands(_ begin: Int, _ count: Int) -> ElementCall {
    // There is an input: nil is what a tensor that is not there gives.
    let x = read(tensors.input, .input, begin, count).unsafelyUnwrapped
    return ElementCall(
      state.formula, x: x, y: read(tensors.target, .target, begin, count),
      z: read(tensors.parameter, .parameter, begin, count),
      weight: read(tensors.weight, .weight, begin, count),
      upstream: read(upstream, .upstream, begin, count), constants: state.constants, scale: scale,
      count: count)
  }

  /// The same with where the results go.
  func call(_ begin: Int, _ count: Int) -> ElementCall {
    var elements = operands(begin, count)
    elements.values = goal(tensors.values, .values, begin)
    if state.sumsOfInput < 0 { elements.slopes = goal(tensors.slopes, .slopes, begin) }
    if state.sumsOfTarget < 0 {
      elements.slopesOfY = goal(tensors.slopesOfTarget, .slopesOfTarget, begin)
    }
    if state.sumsOfParameter < 0 {
      elements.slopesOfZ = goal(tensors.slopesOfParameter, .slopesOfParameter, begin)
    }
    elements.isStreamed = isStreamed
    return elements
  }

  /// Rounds the results to where they belong.
  func commit(_ begin: Int, _ count: Int) {
    func commit(_ tensor: TensorView?, _ tile: ElementTile) {
      if let tensor { tiles.commit(tensor, begin, count, tile: tile.place(scratch)) }
    }
    commit(tensors.values, .values)
    if state.sumsOfInput < 0 { commit(tensors.slopes, .slopes) }
    if state.sumsOfTarget < 0 { commit(tensors.slopesOfTarget, .slopesOfTarget) }
    if state.sumsOfParameter < 0 { commit(tensors.slopesOfParameter, .slopesOfParameter) }
  }

  /// The slopes of one operand, `count` at most a block, in the tiles' type.
  func slopes(of operand: Int, _ begin: Int, _ count: Int) -> UnsafeMutableRawPointer {
    let place = ElementTile.slopes.place(scratch)
    var elements = operands(begin, count)
    switch operand {
    case 0: elements.slopes = place
    case 1: elements.slopesOfY = place
    default: elements.slopesOfZ = place
    }
    _ = tiles.kernels.elements(&elements)
    return place
  }
}
