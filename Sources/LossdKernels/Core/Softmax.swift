// Softmax and log-softmax along rows and along columns.

@inline(always)
private func softmaxGroup(_ x: Input, _ y: Output, _ size: Int, _ stride: Int, _ count: Int) {
  let (_, sums) = columnSums(x, y, size, stride, count)
  let factor = 1 / sums.narrowed
  var c = 0
  while c < size {
    store(load(y, c &* stride, count: count) * factor, y, c &* stride, count: count)
    c &+= 1
  }
}

@inline(always)
private func logSoftmaxGroup(_ x: Input, _ y: Output, _ size: Int, _ stride: Int, _ count: Int) {
  let (m, sums) = columnSums(x, nil, size, stride, count)
  let (high, low) = logOfSums(sums)
  let logarithm = high + low
  var c = 0
  while c < size {
    let v = (load(x, c &* stride, count: count) - m) - logarithm
    store(v, y, c &* stride, count: count)
    c &+= 1
  }
}

@inline(never)
private func softmaxGroup(_ x: Input, _ y: Output, _ size: Int, _ stride: Int) {
  softmaxGroup(x, y, size, stride, width)
}

@inline(never)
private func logSoftmaxGroup(_ x: Input, _ y: Output, _ size: Int, _ stride: Int) {
  logSoftmaxGroup(x, y, size, stride, width)
}

@inline(never)
private func softmaxRow(_ x: Input, _ y: Output, _ count: Int) {
  let sum = exponentials(x, count, maximum(x, count), y).value
  scale(y, count, Scalar(1 / sum))
}

@inline(never)
private func logSoftmaxRow(_ x: Input, _ y: Output, _ count: Int) {
  let m = maximum(x, count)
  let logarithm = Scalar(sumOfExponentials(x, count, m).logarithm)
  var i = 0
  while i &+ width <= count {
    store((load(x, i) - m) - logarithm, y, i)
    i &+= width
  }
  while i < count {
    y[i] = (x[i] - m) - logarithm
    i &+= 1
  }
}

func softmaxRows(_ x: Input, _ y: Output, _ rows: Int, _ columns: Int) {
  var row = 0
  if columns <= shortRow {
    var tile = Tile()
    let t = tile.pointer()
    while row &+ width <= rows {
      turnIn(x + row &* columns, columns, t)
      softmaxGroup(t, t, columns, width)
      turnOut(t, columns, y + row &* columns)
      row &+= width
    }
  }
  while row < rows {
    softmaxRow(x + row &* columns, y + row &* columns, columns)
    row &+= 1
  }
}

func logSoftmaxRows(_ x: Input, _ y: Output, _ rows: Int, _ columns: Int) {
  var row = 0
  if columns <= shortRow {
    var tile = Tile()
    let t = tile.pointer()
    while row &+ width <= rows {
      turnIn(x + row &* columns, columns, t)
      logSoftmaxGroup(t, t, columns, width)
      turnOut(t, columns, y + row &* columns)
      row &+= width
    }
  }
  while row < rows {
    logSoftmaxRow(x + row &* columns, y + row &* columns, columns)
    row &+= 1
  }
}

func softmaxColumns(_ x: Input, _ y: Output, _ size: Int, _ stride: Int, _ columns: Int) {
  eachGroup(columns) {
    softmaxGroup(x + $0, y + $0, size, stride)
  } rest: {
    softmaxGroup(x + $0, y + $0, size, stride, $1)
  }
}

func logSoftmaxColumns(_ x: Input, _ y: Output, _ size: Int, _ stride: Int, _ columns: Int) {
  eachGroup(columns) {
    logSoftmaxGroup(x + $0, y + $0, size, stride)
  } rest: {
    logSoftmaxGroup(x + $0, y + $0, size, stride, $1)
  }
}
