internal import CLossdLanes
import LossdKernelTable

/// This build's kernels for its type.
public func makeKernelTable() -> KernelTable {
  KernelTable(
    rows: { computeRows($0.assumingMemoryBound(to: RowCall.self)) },
    exactSum: { addUpExactly(scalars($0), $1, $2) },
    elements: { computeElements($0.assumingMemoryBound(to: ElementCall.self)) },
    labels: { checkedLabels($0.assumingMemoryBound(to: LabelBlock.self)) },
    alignment: alignment,
    summedRows: { sumRows($0.assumingMemoryBound(to: SummedRows.self)) },
    mixedRows: { mixRows($0.assumingMemoryBound(to: MixedRows.self)) },
    sumOfExponentials: { rowSum(scalars($0), $1, $2) },
    scaledExponentials: { scaledExponentials(scalars($0), scalars($1), $2, $3, $4) },
    exp: { expElements(elements($0), elements($1), $2) },
    weightedExp: { weightedExpElements(elements($0), elements($1), $2, $3) },
    log: { logElements(elements($0), elements($1), $2) },
    log1p: { log1pElements(elements($0), elements($1), $2) },
    widen: { widenElements(elements($0), scalars($1), $2) },
    narrow: { narrowElements(scalars($0), elements($1), $2) }, settle: { lanes_settle() })
}

#if LOSSD_DOUBLE
  private let alignment: KernelTable.Loss? = {
    alignmentStep($0.assumingMemoryBound(to: AlignmentStep.self))
  }
#else
  private let alignment: KernelTable.Loss? = nil
#endif

@inline(__always)
private func elements(_ pointer: UnsafeRawPointer) -> Input {
  pointer.assumingMemoryBound(to: Element.self)
}

@inline(__always)
private func elements(_ pointer: UnsafeMutableRawPointer) -> Output {
  pointer.assumingMemoryBound(to: Element.self)
}

@inline(__always)
private func scalars(_ pointer: UnsafeRawPointer) -> UnsafePointer<Scalar> {
  pointer.assumingMemoryBound(to: Scalar.self)
}

@inline(__always)
private func scalars(_ pointer: UnsafeMutableRawPointer) -> Scratch {
  pointer.assumingMemoryBound(to: Scalar.self)
}
