import LossdKernelTable

// Class indices to labels: plain loops, of which the optimiser makes vectors.

func checkedLabels(_ pointer: UnsafePointer<LabelBlock>) -> Int {
  let block = pointer.pointee
  switch block.kind {
  case .int64: return labels64(block)
  case .int32: return labels32(block)
  case .uint8: return labels8(block)
  }
}

@inline(never)
private func labels64(_ block: LabelBlock) -> Int {
  let targets = block.targets.assumingMemoryBound(to: Int64.self)
  let (labels, ignored, classes) = (block.labels, block.ignored, UInt64(block.classes))
  var (kept, wrong) = (0, 0)
  var i = 0
  while i < block.count {
    let target = targets[i]
    let isKept = target != ignored
    labels[i] = isKept ? Int32(truncatingIfNeeded: target) : -1
    kept &+= isKept ? 1 : 0
    wrong &+= isKept && UInt64(bitPattern: target) >= classes ? 1 : 0
    i &+= 1
  }
  return wrong == 0 ? kept : -1
}

@inline(never)
private func labels32(_ block: LabelBlock) -> Int {
  let targets = block.targets.assumingMemoryBound(to: Int32.self)
  // A target that no int32 is ignores nothing.
  let isPossible = Int64(Int32(truncatingIfNeeded: block.ignored)) == block.ignored
  let ignored = Int32(truncatingIfNeeded: block.ignored)
  let (labels, classes) = (block.labels, UInt32(truncatingIfNeeded: block.classes))
  var (kept, wrong) = (0, 0)
  var i = 0
  while i < block.count {
    let target = targets[i]
    let isKept = !(isPossible && target == ignored)
    labels[i] = isKept ? target : -1
    kept &+= isKept ? 1 : 0
    wrong &+= isKept && UInt32(bitPattern: target) >= classes ? 1 : 0
    i &+= 1
  }
  return wrong == 0 ? kept : -1
}

@inline(never)
private func labels8(_ block: LabelBlock) -> Int {
  let targets = block.targets.assumingMemoryBound(to: UInt8.self)
  let (labels, ignored, classes) = (block.labels, block.ignored, block.classes)
  var (kept, wrong) = (0, 0)
  var i = 0
  while i < block.count {
    let target = Int32(targets[i])
    let isKept = Int64(target) != ignored
    labels[i] = isKept ? target : -1
    kept &+= isKept ? 1 : 0
    wrong &+= isKept && Int(target) >= classes ? 1 : 0
    i &+= 1
  }
  return wrong == 0 ? kept : -1
}
